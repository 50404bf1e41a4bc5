"""How good an adapter is: evaluated on a worker, on rows that it has not learnt, and kept beside
its job. Trains nothing, and touches neither job nor adapter."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sollol_tui.hosts.transfer import Report, silent
from sollol_tui.jobs.adapters import Adapter, find_adapter
from sollol_tui.jobs.beginning import STAGED
from sollol_tui.jobs.dataset import check_dataset, locate_dataset
from sollol_tui.jobs.errand import Errand, Say, carry_out, hosts_for
from sollol_tui.jobs.evaluations import keep
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import CommandError, InputError, NotFoundError
from sollol_tui.model.evaluation import Evaluation, Example, perplexity_of
from sollol_tui.model.events import Event
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.plan import DatasetFacts
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.text import clean, clean_lines

MOST_EXAMPLES: Final = 100
_LONGEST: Final = 8_100  # characters of a text from a worker
Progress = Callable[[str, int, int], None]  # which part, how much of it is done, and of how much


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`adapter` is a job or a folder; without `dataset` the rows that the job itself held out."""

    adapter: str
    dataset: str | None = None
    checkpoint: int | str | None = None
    host: str | None = None
    samples: int = 3


async def evaluate(
    store: Store,
    inventory: Inventory | None,
    wanted: Wanted,
    here: Path,
    *,
    say: Say,
    progress: Progress,
    report: Report = silent,
) -> Evaluation:
    """Evaluates an adapter and its base; `inventory` is None where there is none but the job's own.
    Raises InputError, NotFoundError, NoWorkersError and HostError."""
    with scratch(store.home) as folder:
        adapter = await find_adapter(store, wanted.adapter, wanted.checkpoint, folder, here, report)
        inventory = inventory_of(adapter, inventory)
        hosts = hosts_for(inventory, wanted.host, adapter.hosts)
        spec, data = await _rows(adapter, wanted.dataset, here)
        errand = Errand(
            program="evaluate",
            title=f"the evaluation of {adapter.source}",
            spec=replace(
                spec, batch_size="auto", gradient_checkpointing=False, torch_compile=False
            ),
            model=adapter.model,
            adapter=adapter.stage(folder / "adapter"),
            inventory=inventory,
            hosts=hosts,
            dataset=data,
            samples=wanted.samples,
        )
        heard = _Heard(progress=progress, say=say)
        finished, host = await carry_out(store, errand, say=say, hear=heard.hear)
    evaluation = _evaluation(adapter, spec, host, finished, heard.examples)
    if adapter.job is not None:
        keep(store.home, adapter.job, evaluation)
    return evaluation


@contextmanager
def scratch(home: Home) -> Iterator[Path]:
    """A folder for what is under way to a worker or from one; gone afterwards."""
    (home.root / STAGED).mkdir(mode=0o700, exist_ok=True)
    with TemporaryDirectory(dir=home.root / STAGED) as folder:
        yield Path(folder)


def inventory_of(adapter: Adapter, inventory: Inventory | None) -> Inventory:
    """The inventory that there is now, else the one with which the job was submitted."""
    known = inventory or adapter.inventory
    if known is None:
        raise NotFoundError(
            "there is no inventory, and no job here to which the folder belongs",
            remedy="make an inventory: sollol init",
        )
    return known


async def _rows(adapter: Adapter, dataset: str | None, here: Path) -> tuple[JobSpec, DatasetFacts]:
    """The spec under which rows are read, and these rows. Raises InputError."""
    spec = adapter.spec
    if dataset is not None:
        place = locate_dataset(dataset, here)
        facts = await check_dataset(place, spec.format)
        return replace(spec, dataset=place, val_size=0.0), facts
    if not spec.val_size:
        raise InputError.single(
            "--dataset",
            f"{adapter.source} held no rows out (val_size 0); name some that it has not learnt",
        )
    facts = await check_dataset(spec.dataset, spec.format)
    if adapter.dataset is not None and facts.sha256 != adapter.dataset.sha256:
        raise InputError.single(
            spec.dataset,
            f"is not what {adapter.job} was trained on any more, so its held-out rows are others; "
            "name rows with --dataset",
        )
    return spec, facts


@dataclass(slots=True, kw_only=True)
class _Heard:
    """What the worker tells while it evaluates."""

    progress: Progress
    say: Say
    examples: list[Example] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        match event.kind:
            case "loading":
                self.say(f"{event.host}: loading {clean(event.text('what'))}")
            case "progress":
                done, total = event.count("done"), event.count("total")
                if done is not None and total is not None:
                    self.progress(clean(event.text("phase"), limit=20), done, total)
            case "example" if len(self.examples) < MOST_EXAMPLES:
                self.examples.append(
                    Example(
                        **{
                            key: "\n".join(clean_lines(event.text(key), limit=_LONGEST))
                            for key in ("place", "prompt", "expected", "before", "after")
                        }
                    )
                )


def _evaluation(
    adapter: Adapter, spec: JobSpec, host: str, finished: Event, examples: list[Example]
) -> Evaluation:
    losses = [finished.number(key) for key in ("loss_before", "loss")]
    counts = [finished.count(key) for key in ("rows", "tokens")]
    if None in losses or None in counts:
        raise CommandError(
            host,
            f"its losses are no numbers: {clean(repr(finished.data), limit=200)}",
            remedy="its training may have fallen apart; evaluate an earlier --checkpoint",
        )
    before, after = (float(loss or 0) for loss in losses)
    rows, tokens = (count or 0 for count in counts)
    return Evaluation(
        at=time.time(),
        source=adapter.source,
        job=adapter.job,
        checkpoint=adapter.checkpoint,
        model=spec.model,
        dataset=spec.dataset,
        held_out=spec.val_size > 0,
        rows=rows,
        tokens=tokens,
        loss_before=before,
        loss=after,
        perplexity_before=perplexity_of(before),
        perplexity=perplexity_of(after),
        host=host,
        device=clean(finished.text("device"), limit=40),
        seconds=finished.number("seconds") or 0.0,
        examples=tuple(examples),
    )
