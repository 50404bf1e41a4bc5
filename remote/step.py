"""One optimizer step: dealt, computed, added up, and committed by all ranks or by none.

Knows neither when to stop nor what is told about it.
"""

import json
from dataclasses import dataclass

import numpy as np
import torch

from remote.batches import Packed
from remote.data.order import deal, samples_of_step
from remote.data.tokens import Batch, Rows
from remote.distill.divergence import mixed_loss
from remote.engine import MemberLostError, StepLost, Tally
from remote.fit import in_memory
from remote.model import Model
from remote.schedule import learning_rate
from remote.session import Cursor, Session

NAMED_ROWS = 20
WIRE_BYTES = {"fp32": 4, "bf16": 2}  # of a number of the gradient


class TrainError(RuntimeError):
    """The training itself went wrong; the message says at which step and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One optimizer step, the same on every rank but for `share`. `number` counts from 1."""

    number: int
    samples: np.ndarray
    share: np.ndarray  # the samples that this rank computes
    tokens: int  # of all samples together that the loss counts
    lr: float


def next_step(session: Session, cursor: Cursor) -> Step:
    """The step that follows the cursor: a function of the run and the cursor, but for our share."""
    settings, rows, members = session.settings, session.rows, session.engine.members()
    samples = samples_of_step(
        settings.seed,
        len(rows),
        settings.global_batch,
        settings.epochs,
        cursor.step,
        shared_first=session.scores is not None,
    )
    shares = deal(len(samples), members.weights)
    return Step(
        number=cursor.step + 1,
        samples=samples,
        share=samples[shares[members.place]],
        tokens=int(rows.label_counts[samples].sum()),
        lr=learning_rate(
            settings.learning_rate,
            settings.schedule,
            settings.warmup_samples(session.samples_total),
            done=cursor.samples_done,
            total=session.samples_total,
            global_batch=settings.global_batch,
        ),
    )


def compute(session: Session, step: Step) -> Tally:
    """Adds our share's part of the gradient to the flat buffer, already divided by the tokens of
    the whole step, so that the sum over ranks is right however unequal the shares are. Begins anew
    with smaller micro-batches where memory runs out. Computes nothing, and says so, where the
    teacher's scores of our share are not all here."""
    if session.scores is not None:
        if session.scores.missing(step.share):
            return Tally(lacking=1.0)
        session.scores.go_on(step.number)
    tally = in_memory(
        session.layout,
        lambda: _compute(session, step),
        session.say,
        undo=session.gradients.clear,
    )
    if tally is None:
        raise TrainError(
            f"step {step.number}: {session.own.host} has no memory left for a single sample; "
            "lower max_length, set gradient_checkpointing: true, or end what else runs there"
        )
    return tally


def _compute(session: Session, step: Step) -> Tally:
    model, rows, settings = session.model, session.rows, session.settings
    tokens, losses = 0, np.zeros(3)
    for some, batch in session.layout.micro_batches(rows, step.share, model.pad_id):
        if settings.lora.dropout:
            torch.manual_seed(dropout_seed(settings.seed, step.number, int(some[0])))
        loss, *parts = _losses(session, some, batch)
        (loss / step.tokens).backward()
        losses += torch.stack([loss.detach(), *parts]).tolist()
        tokens += int(rows.label_counts[some].sum())
    loss_sum, cross_entropy, divergence = losses.tolist()
    finite = bool(np.isfinite(loss_sum)) and session.gradients.are_finite()
    return Tally(
        samples=len(step.share),
        tokens=tokens,
        loss_sum=loss_sum,
        cross_entropy=cross_entropy,
        divergence=divergence,
        not_finite=float(not finite),
    )


def _losses(session: Session, samples: np.ndarray, batch: Batch | Packed) -> list[torch.Tensor]:
    """The summed loss, and what it is made of: cross-entropy, and divergence from a teacher."""
    model, distill = session.model, session.run.distill
    if session.scores is None or distill is None:
        loss = model.token_loss(batch)
        return [loss, loss.detach(), torch.zeros_like(loss)]
    mixed = mixed_loss(
        *model.foretold(batch),
        session.scores.signal(samples),
        alpha=distill.alpha,
        temperature=distill.temperature,
    )
    return [mixed.loss, mixed.cross_entropy, mixed.divergence]


def dropout_seed(seed: int, step: int, row: int) -> int:
    """Chance depends on what is computed, never on who computes it."""
    return int(np.random.SeedSequence([seed, step, row]).generate_state(1, np.uint32)[0])


def add_up(session: Session, tally: Tally) -> Tally | StepLost:
    """Sums the gradients, in the type that the wire carries, and the tally over the ranks. Of a
    lost step nothing is left."""
    flat = session.gradients.values
    wire = session.gradients.rounded() if session.settings.wire == "bf16" else flat
    outcome = session.engine.reduce(wire, tally)
    if isinstance(outcome, StepLost):
        session.gradients.clear()
    elif wire is not flat:
        flat.copy_(wire)
    return outcome


def commit(session: Session, step: Step, tally: Tally) -> float:
    """Applies the summed gradient if what was computed is what was due; returns its length. Every
    rank decides by the same numbers, so all commit or none does."""
    if (tally.samples, tally.tokens) != (len(step.samples), step.tokens):
        raise TrainError(
            f"step {step.number}: the ranks computed {tally.samples:.0f} samples with "
            f"{tally.tokens:.0f} tokens where {len(step.samples)} with {step.tokens} were due; "
            "their data differ, so the step was not committed"
        )
    if tally.not_finite:
        raise TrainError(f"step {step.number}: {blame_rows(session, step)}")
    norm = session.gradients.clip(session.settings.max_grad_norm)
    for group in session.optimizer.param_groups:
        group["lr"] = step.lr
    session.optimizer.step()
    session.gradients.clear()
    return norm


@torch.no_grad()
def not_finite(model: Model, rows: Rows, share: np.ndarray) -> list[int]:
    """The rows of a share whose loss is not finite, each computed alone."""
    alone = ((int(row), rows.batch(np.array([row]), model.pad_id)) for row in share)
    return [row for row, batch in alone if not np.isfinite(model.token_loss(batch).item())]


def blame_rows(session: Session, step: Step) -> str:
    """Recomputes each rank's rows one by one and names those whose loss is not finite."""
    rows = session.rows
    culprits = not_finite(session.model, rows, step.share)
    own = json.dumps([len(culprits), culprits[:NAMED_ROWS]])
    try:
        words = [*session.engine.exchange(own).values()]
    except MemberLostError:
        words = [own]  # the others name theirs in their own error
    told = [json.loads(word) for word in words]
    count = sum(number for number, _ in told)
    named = sorted(row for _, part in told for row in part)
    if not named:
        return (
            "the gradient is not finite although the loss of every row is; lower the learning rate "
            "or max_grad_norm"
        )
    if count == len(step.samples) > 1:
        return (
            f"none of its {count} rows has a finite loss any more, so an earlier step has spoilt "
            "the weights; lower learning_rate, or raise warmup_ratio"
        )
    more = f" and {count - len(named):,} more" if count > len(named) else ""
    return (
        f"the loss of dataset {', '.join(map(rows.place, named))}{more} is not finite; look at "
        "what stands there, or lower the learning rate"
    )
