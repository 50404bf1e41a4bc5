"""What a rank holds while it trains: run, engine, model, rows, optimizer. Data only, no steps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from remote.batches import Layout
from remote.checkpoint import Checkpoints
from remote.data.order import steps_of_run
from remote.data.tokens import Rows
from remote.distill.reading import TeacherScores
from remote.engine import Engine
from remote.events import EventWriter
from remote.model import FlatGradients, Model
from remote.run import Rank, Run, Train
from remote.watchdog import Trend

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Cursor:
    """How far the run is committed. Beside weights and moments, all that changes while training."""

    step: int = 0
    samples_done: int = 0
    stopping: bool = False  # the ranks have agreed to stop after this step
    history: list[dict[str, Any]] = field(default_factory=list)
    trend: Trend = field(default_factory=Trend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    run: Run
    own: Rank
    run_dir: Path
    events: EventWriter
    engine: Engine
    model: Model
    rows: Rows
    validation: Rows | None  # held out of `rows`; never learnt
    layout: Layout
    gradients: FlatGradients
    optimizer: torch.optim.Optimizer
    checkpoints: Checkpoints
    scores: TeacherScores | None = None  # that this student learns, beside the data

    @property
    def settings(self) -> Train:
        return self.run.train

    @property
    def say(self) -> Say:
        return speaker(self.events)

    @property
    def samples_total(self) -> int:
        return len(self.rows) * self.settings.epochs

    @property
    def max_steps(self) -> int:
        return steps_of_run(len(self.rows), self.settings.global_batch, self.settings.epochs)

    @property
    def keeps_checkpoints(self) -> bool:
        """One rank of each host writes: the weights are the same on all."""
        return self.own.slot == min(rank.slot for rank in self.run.own_ranks)


def order_of(run: Run, rows: Rows) -> dict[str, Any]:
    """What makes a cursor mean the same samples."""
    settings = run.train
    return {
        "seed": settings.seed,
        "epochs": settings.epochs,
        "global_batch": settings.global_batch,
        "rows": len(rows),
        "tokens": rows.digest,
    } | ({"first_epoch": "shared"} if run.distill else {})


def speaker(events: EventWriter) -> Say:
    """Says a notice to the coordinator and to whoever reads the log."""

    def say(message: str) -> None:
        events.emit("notice", message=message)
        print(message, flush=True)

    return say
