"""Compares the base model with the adapted one: the loss on rows that were not learnt, and answers
to some of them. Learns nothing.

Run by an agent: `python -m remote.evaluate RUN_DIR SLOT ATTEMPT`.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from remote.batches import Layout
from remote.data.render import DataError
from remote.data.tokens import Dataset, Rows
from remote.engine import WorldError
from remote.errand import main
from remote.evaluation import loss_sum
from remote.events import EventWriter
from remote.fit import choose_layout, in_memory
from remote.model import Model
from remote.run import Run
from remote.session import Say, speaker
from remote.start import device_of, load

TOLD_EVERY_S = 0.5
LONGEST_TEXT = 8_000  # characters of one answer or prompt: a line of events has its limit
UNANSWERED = 64  # tokens of plain text, in which nobody asks, that go before what is foretold


def evaluate(run: Run, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Tells an `example` for each row that is answered; returns losses per token and the counts."""
    say, began = speaker(events), time.monotonic()
    [own] = run.own_ranks
    device = device_of(own)
    events.emit("loading", what=f"{run.base_name} and {Path(run.dataset).name}")
    model, data = load(run, run_dir, device, say)
    rows = held_out(run, data)
    layout = choose_layout(run, model, rows, len(rows), say)
    for parameter in model.parameters:
        parameter.grad = None  # of a sample that was measured
    losses = {}
    for phase in ("before", "after"):
        with state_of(model, phase):
            losses[phase] = measure(model, layout, rows, say, _teller(events, phase, len(rows)))
    examples = [*own_prompts(run), *asked(model, rows, run.samples)]
    for number, example in enumerate(examples):
        events.emit("progress", phase="answers", done=number, total=len(examples))
        told = answers(model, example.pop("ids"), run.train.sample_tokens)
        events.emit("example", **{key: _cut(text) for key, text in (example | told).items()})
    tokens = int(rows.label_counts.sum())
    return {
        "rows": len(rows),
        "tokens": tokens,
        "loss_before": losses["before"] / tokens,
        "loss": losses["after"] / tokens,
        "device": str(device),
        "seconds": round(time.monotonic() - began, 2),
    }


def held_out(run: Run, data: Dataset) -> Rows:
    """The rows that nothing was learnt from: the job's own, or all of another dataset."""
    if not run.train.val_size:
        return data.training
    if not len(data.validation):
        raise DataError(
            f"val_size {run.train.val_size:g} holds none of the {len(data.training):,} rows out; "
            "name others with --dataset"
        )
    return data.validation


def state_of(model: Model, phase: str) -> AbstractContextManager[Any]:
    """The base alone `before`, the adapted model `after`."""
    return model.network.disable_adapter() if phase == "before" else nullcontext()


def measure(
    model: Model, layout: Layout, rows: Rows, say: Say, told: Callable[[int], None]
) -> float:
    """The summed loss of the rows' learnt tokens; with fewer at once where memory runs out."""
    share = np.arange(len(rows), dtype=np.int64)
    summed = in_memory(
        layout, lambda: loss_sum(model, layout, rows, share, told), say, undo=lambda: None
    )
    if summed is None:
        raise WorldError(
            f"there is no memory left on {model.device} for a single sample of "
            f"{int(rows.lengths.max())} tokens; choose another host with --host"
        )
    return summed


def _teller(events: EventWriter, phase: str, total: int) -> Callable[[int], None]:
    """Tells how many rows are done, now and then."""
    told_at = 0.0

    def tell(done: int) -> None:
        nonlocal told_at
        if (now := time.monotonic()) - told_at >= TOLD_EVERY_S or done == total:
            told_at = now
            events.emit("progress", phase=phase, done=done, total=total)

    return tell


def asked(model: Model, rows: Rows, count: int) -> Iterator[dict[str, Any]]:
    """Up to `count` rows from all over the held-out ones: what is asked there, as tokens and as
    text, and what should be answered."""
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows)), dtype=np.int64)
    for row in dict.fromkeys(chosen.tolist()):
        place = slice(int(rows.offsets[row]), int(rows.offsets[row + 1]))
        tokens, labelled = rows.tokens[place], rows.labelled[place]
        begin = int(labelled.argmax())
        end = begin + int((~labelled[begin:]).argmax() or len(labelled) - begin)
        if begin < 2:  # plain text: all of it is learnt
            begin, end = max(1, min(UNANSWERED, len(tokens) // 2)), len(tokens)
        yield {
            "ids": torch.from_numpy(tokens[:begin].astype(np.int64)),
            "place": rows.place(row),
            "prompt": _text(model, tokens[:begin]),
            "expected": _text(model, tokens[begin:end]),
        }


def own_prompts(run: Run) -> Iterator[dict[str, Any]]:
    """What the job's own prompts ask; nobody knows what should be answered."""
    for prompt in run.train.sample_prompts:
        yield {"ids": prompt, "place": "prompt", "prompt": prompt, "expected": ""}


def answers(model: Model, ids: Any, tokens: int) -> dict[str, str]:
    told = {}
    for phase in ("before", "after"):
        with state_of(model, phase):
            told[phase] = (
                model.answer(ids, tokens) if isinstance(ids, str) else model.complete(ids, tokens)
            )
    return told


def _text(model: Model, tokens: np.ndarray) -> str:
    text: str = model.tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
    return text.strip()


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."


if __name__ == "__main__":
    sys.exit(main(evaluate))
