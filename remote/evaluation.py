"""The loss on rows that are held out, dealt over the ranks like a step. Learns nothing."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from remote.batches import Layout
from remote.data.order import deal
from remote.data.tokens import Rows
from remote.engine import WorldError
from remote.fit import in_memory
from remote.model import Model
from remote.session import Cursor, Session
from remote.step import NAMED_ROWS, not_finite

HIGHEST_EXPONENT = 700.0  # of what a float holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the held-out rows say after a step; `loss` is per token."""

    step: int
    loss: float
    rows: int
    seconds: float

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, HIGHEST_EXPONENT))


def is_due(session: Session, cursor: Cursor, *, last: bool) -> bool:
    every = session.settings.evaluated_every
    if session.validation is None or _is_done(cursor):
        return False
    return last or bool(every and cursor.step % every == 0)


def _is_done(cursor: Cursor) -> bool:
    """Whether the held-out loss after this step is known: from the others, where one was healed."""
    return any(
        entry["step"] == cursor.step and "eval_loss" in entry for entry in cursor.history[-2:]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one rank, or all of them, found of the held-out rows. `loss_sum` is over `tokens`;
    `culprits` are the first rows whose loss is not finite."""

    rows: int
    tokens: int
    loss_sum: float
    culprits: list[int]


def evaluate(session: Session, cursor: Cursor) -> Evaluation | None:
    """Computes our share of the held-out rows, adds it up with the others', tells the outcome and
    puts it into the run's log. Where it is not finite, that is said and there is none."""
    began = time.monotonic()
    whole = _added_up(session, _own_part(session))
    rows, tokens, loss_sum = whole.rows, whole.tokens, whole.loss_sum
    if not math.isfinite(loss_sum):
        if session.engine.members().is_first:
            session.say(_blame(session, cursor, whole.culprits))
        return None
    evaluation = Evaluation(
        step=cursor.step, loss=loss_sum / tokens, rows=rows, seconds=time.monotonic() - began
    )
    cursor.history.append(
        {
            "step": cursor.step,
            "epoch": cursor.samples_done / len(session.rows),
            "eval_loss": evaluation.loss,
            "eval_samples": evaluation.rows,
            "eval_runtime": round(evaluation.seconds, 3),
        }
    )
    if session.engine.members().is_first:
        session.events.emit(
            "evaluation",
            step=evaluation.step,
            loss=evaluation.loss,
            perplexity=evaluation.perplexity,
            rows=evaluation.rows,
            seconds=round(evaluation.seconds, 3),
        )
        print(
            f"held-out loss {evaluation.loss:.3f} (perplexity {evaluation.perplexity:.2f}) on "
            f"{evaluation.rows:,} rows after step {evaluation.step}",
            flush=True,
        )
    return evaluation


def _own_part(session: Session) -> Part:
    """What our share of the rows says."""
    rows, model, members = session.validation, session.model, session.engine.members()
    assert rows is not None
    shares = deal(len(rows), members.weights)
    share = np.arange(len(rows), dtype=np.int64)[shares[members.place]]
    summed = in_memory(
        session.layout,
        lambda: loss_sum(model, session.layout, rows, share),
        session.say,
        undo=session.gradients.clear,  # all zero here
    )
    if summed is None:
        raise WorldError(
            f"{session.own.host} has no memory left for a single held-out row of up to "
            f"{int(rows.lengths.max())} tokens; lower max_length, or end what else runs there"
        )
    return Part(
        rows=len(share),
        tokens=int(rows.label_counts[share].sum()),
        loss_sum=summed,
        culprits=[] if math.isfinite(summed) else not_finite(model, rows, share)[:NAMED_ROWS],
    )


@torch.no_grad()
def loss_sum(
    model: Model,
    layout: Layout,
    rows: Rows,
    share: np.ndarray,
    told: Callable[[int], None] = lambda done: None,
) -> float:
    """The sum of the losses of all learnt tokens of these rows; `told` hears how many are done."""
    summed, done = 0.0, 0
    model.network.eval()  # the adapter's dropout is for learning
    try:
        for some, batch in layout.micro_batches(rows, share, model.pad_id):
            summed += model.token_loss(batch).item()
            done += len(some)
            told(done)
    finally:
        model.network.train()
    return summed


def _added_up(session: Session, own: Part) -> Part:
    assert session.validation is not None
    said = session.engine.exchange(json.dumps(asdict(own)))
    parts = [Part(**json.loads(word)) for word in said.values()]
    rows = sum(part.rows for part in parts)
    if rows != len(session.validation):
        raise WorldError(
            f"the ranks evaluated {rows} held-out rows where {len(session.validation)} were due; "
            "their data differ"
        )
    return Part(
        rows=rows,
        tokens=sum(part.tokens for part in parts),
        loss_sum=sum(part.loss_sum for part in parts),
        culprits=sorted(row for part in parts for row in part.culprits),
    )


def _blame(session: Session, cursor: Cursor, culprits: list[int]) -> str:
    rows = session.validation
    assert rows is not None
    named = ", ".join(map(rows.place, culprits[:NAMED_ROWS])) or "rows that are computed together"
    return (
        f"the held-out loss after step {cursor.step} is left out: that of {named} is not finite; "
        "look at what stands there, or lower the learning rate"
    )
