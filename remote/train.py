"""One rank of a job: computes its share of every step until the run is committed.

Started by `accelerate launch ... -m remote.train RUN_DIR SLOT ATTEMPT`. It decides nothing about
the job: run.json says what to do, the control file when to stop. It does not know which engine adds
the gradients.
"""

import os
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the plan says how many cores are ours

import numpy as np
import torch

from remote.agreement import agree_on_weights
from remote.control import Action, read_control
from remote.data.order import deal, samples_of_step
from remote.engine import StepLost, Tally, WorldError
from remote.events import EventWriter
from remote.launch import die_with_launcher, threads_of_rank
from remote.progress import Committed, Progress, duration
from remote.result import save_checkpoint, write_result
from remote.run import Rank, Run, read_run
from remote.schedule import learning_rate
from remote.session import Cursor, Session
from remote.start import start

NAMED_ROWS = 20


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


def train(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
    """Trains until every sample of the run is committed, or until told to stop."""
    session, cursor = start(run, own, run_dir, events)
    if cursor.step == 0:
        answer_prompts(session, "before")
    progress = Progress(
        session.max_steps, session.samples_total, cursor.samples_done, cursor.history
    )
    began = time.monotonic()
    stopping = False
    while cursor.samples_done < session.samples_total and not stopping:
        wanted = read_control(run_dir)
        if wanted is Action.KILL:
            print("leaving at once, as asked", flush=True)
            return
        step = next_step(session, cursor)
        computed = compute(session, step)
        added_at = time.monotonic()
        tally = add_up(session, replace(computed, stop_wanted=float(wanted is Action.STOP)))
        sync_s = time.monotonic() - added_at
        grad_norm = commit(session, step, tally)

        cursor.step = step.number
        cursor.samples_done += len(step.samples)
        stopping = tally.stop_wanted > 0
        committed = Committed(
            step=cursor.step,
            samples_done=cursor.samples_done,
            tokens=step.tokens,
            loss=tally.loss_sum / step.tokens,
            lr=step.lr,
            grad_norm=grad_norm,
            sync_s=sync_s,
        )
        done = cursor.samples_done == session.samples_total
        tell(session, progress, committed, last=done or stopping)
        due = session.settings.save_steps and cursor.step % session.settings.save_steps == 0
        if due or stopping or done:
            agree_on_weights(session.engine, session.model)
            if session.keeps_checkpoints:
                save_checkpoint(session, cursor)
    session.checkpoints.close()
    if cursor.samples_done < session.samples_total:
        stop(session, cursor)
    else:
        finish(session, cursor, time.monotonic() - began)
    session.engine.close()


def next_step(session: Session, cursor: Cursor) -> Step:
    """The step that follows the cursor: a function of the run and the cursor, but for our share."""
    settings, rows, members = session.settings, session.rows, session.engine.members()
    samples = samples_of_step(
        settings.seed, len(rows), settings.global_batch, settings.epochs, cursor.step
    )
    shares = deal(len(samples), [1.0] * len(members.ranks))
    return Step(
        number=cursor.step + 1,
        samples=samples,
        share=samples[shares[members.place]],
        tokens=int(rows.label_counts[samples].sum()),
        lr=learning_rate(
            settings.learning_rate,
            settings.schedule,
            settings.warmup_ratio,
            done=cursor.samples_done,
            total=session.samples_total,
            global_batch=settings.global_batch,
        ),
    )


def compute(session: Session, step: Step) -> Tally:
    """Adds our share's part of the gradient to the flat buffer, already divided by the tokens of
    the whole step, so that the sum over ranks is right however unequal the shares are."""
    model, rows, settings = session.model, session.rows, session.settings
    by_length = step.share[np.argsort(-rows.lengths[step.share], kind="stable")]  # little padding
    tokens, loss_sum = 0, 0.0
    for begin in range(0, len(by_length), settings.batch_size):
        some = by_length[begin : begin + settings.batch_size]
        if settings.lora.dropout:
            torch.manual_seed(dropout_seed(settings.seed, step.number, int(some[0])))
        loss = model.token_loss(rows.batch(some, model.pad_id))
        (loss / step.tokens).backward()
        loss_sum += loss.item()
        tokens += int(rows.label_counts[some].sum())
    finite = bool(np.isfinite(loss_sum)) and session.gradients.are_finite()
    return Tally(
        samples=len(step.share), tokens=tokens, loss_sum=loss_sum, not_finite=float(not finite)
    )


def dropout_seed(seed: int, step: int, row: int) -> int:
    """Chance depends on what is computed, never on who computes it."""
    return int(np.random.SeedSequence([seed, step, row]).generate_state(1, np.uint32)[0])


def add_up(session: Session, tally: Tally) -> Tally:
    """Sums the gradients, in the type that the wire carries, and the tally over the ranks."""
    flat = session.gradients.values
    wire = flat.to(torch.bfloat16) if session.settings.wire == "bf16" else flat
    outcome = session.engine.reduce(wire, tally)
    if isinstance(outcome, StepLost):
        raise WorldError(outcome.reason)
    if wire is not flat:
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


def blame_rows(session: Session, step: Step) -> str:
    """Recomputes each rank's rows one by one and names those whose loss is not finite."""
    model, rows = session.model, session.rows
    with torch.no_grad():
        losses = [
            model.token_loss(rows.batch(step.share[i : i + 1], model.pad_id)).item()
            for i in range(len(step.share))
        ]
    culprits = [
        str(rows.numbers[row])
        for row, loss in zip(step.share, losses, strict=True)
        if not np.isfinite(loss)
    ]
    words = session.engine.exchange(" ".join(culprits[:NAMED_ROWS]))
    named = sorted({int(number) for word in words.values() for number in word.split()})
    if not named:
        return (
            "the gradient is not finite although the loss of every row is; lower the learning rate "
            "or max_grad_norm"
        )
    return (
        f"the loss of dataset row {', '.join(map(str, named))} is not finite; look at what stands "
        "there, or lower the learning rate"
    )


def tell(session: Session, progress: Progress, committed: Committed, *, last: bool) -> None:
    """At most five events and one line a second, from the rank that speaks for the job."""
    event = progress.add(committed, last=last)
    members = session.engine.members()
    if event is None or not members.is_first:
        return
    session.events.emit("step", **event, world_size=len(members.ranks))
    if line := progress.line(event):
        print(line, flush=True)


def answer_prompts(session: Session, phase: str) -> None:
    """Shows what the model says now, so that a person sees what training changes."""
    if not session.engine.members().is_first:
        return
    for prompt in session.settings.sample_prompts:
        text = session.model.answer(prompt, session.settings.sample_tokens)
        session.events.emit("sample", phase=phase, prompt=prompt, text=text)
        print(f"{phase} training, {prompt!r} -> {text!r}", flush=True)


def stop(session: Session, cursor: Cursor) -> None:
    if session.keeps_checkpoints and cursor.step not in session.checkpoints.steps():
        raise TrainError(
            f"stopped after step {cursor.step}, whose checkpoint could not be written (the notice "
            "before this says why); a resume would start from an older one"
        )
    session.events.emit("stopped", step=cursor.step, samples_done=cursor.samples_done)
    print(f"stopped after step {cursor.step}, as asked", flush=True)


def finish(session: Session, cursor: Cursor, train_s: float) -> None:
    answer_prompts(session, "after")
    result = write_result(session, cursor) if session.engine.members().is_first else None
    session.events.emit(
        "finished",
        step=cursor.step,
        samples_done=cursor.samples_done,
        digest=session.model.digest(),
        result=str(result) if result else None,
        train_s=round(train_s, 2),
    )
    print(f"finished {cursor.step} steps in {duration(train_s)}", flush=True)


def main(arguments: list[str]) -> int:
    run_dir, slot, attempt = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    run = read_run(run_dir)
    events = EventWriter(
        run_dir / f"events.{slot}.{attempt}.jsonl",
        job=run.job,
        host=run.host,
        slot=slot,
        attempt=attempt,
        generation=run.generation,
    )
    if "OMP_NUM_THREADS" not in run.env:
        torch.set_num_threads(threads_of_rank(run))
    try:
        train(run, run.rank_of_slot(slot), run_dir, events)
    except Exception as error:
        told = traceback.format_exc()
        sentence = " ".join(str(error).split()) or type(error).__name__
        events.emit("failed", error=sentence, traceback=told)
        print(told, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    die_with_launcher(Path(sys.argv[1]))
    sys.exit(main(sys.argv[1:]))
