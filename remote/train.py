"""One rank of a job: computes its share of every step until the run is committed.

Started by `accelerate launch ... -m remote.train RUN_DIR SLOT ATTEMPT`. It decides nothing about
the job: run.json says what to do, the control file when to stop. It does not know which engine adds
the gradients.
"""

import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the plan says how many cores are ours

from remote.agreement import agree_on_weights
from remote.control import Action, read_control
from remote.engine import DismissedError, MemberLostError, StepLost
from remote.evaluation import evaluate, is_due
from remote.events import EventWriter
from remote.program import begin, carry_out
from remote.progress import Committed, Progress, duration
from remote.pulse import Doing, Pulse
from remote.reports import Reports
from remote.result import save_checkpoint, write_result
from remote.run import Rank, Run
from remote.session import Cursor, Session
from remote.speed import Speeds, Spent, line_of
from remote.start import FORESEEN, keep_to_cores, start
from remote.state import Learnt
from remote.step import WIRE_BYTES, Step, TrainError, add_up, commit, compute, next_step
from remote.watchdog import Watchdog


def train(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
    """Trains until every sample of the run is committed, or until told to leave."""
    keep_to_cores(run)
    try:
        session, cursor, learnt = start(run, own, run_dir, events)
    except DismissedError as dismissed:
        print(f"{dismissed} before the first step", flush=True)
        return
    if cursor.step == 0:
        answer_prompts(session, "before")
    reports = Reports(session, cursor)
    began = time.monotonic()
    try:
        take_steps(session, cursor, learnt, reports)
        conclude(session, cursor, learnt, reports)
        if cursor.samples_done < session.samples_total:
            stop(session, cursor, together=True)
        else:
            finish(session, cursor, learnt, time.monotonic() - began)
    except DismissedError as dismissed:
        depart(session, cursor, reports, dismissed.action)
    session.engine.close()


def take_steps(session: Session, cursor: Cursor, learnt: Learnt, reports: Reports) -> None:
    """Returns once all samples are committed, or the ranks have agreed to stop."""
    progress = Progress(
        session.max_steps, session.samples_total, cursor.samples_done, cursor.history
    )
    watchdog = Watchdog(
        session.settings.loss_watchdog, session.settings.loss_watchdog_steps, cursor.trend
    )
    speeds = Speeds(sum_bytes=session.gradients.values.numel() * WIRE_BYTES[session.settings.wire])
    pulse = Pulse(session.run_dir, session.own.slot, session.events.attempt)
    # The start has settled it where the run goes on: the others compute, and wait for our part.
    settled = session.engine.heals and cursor.step > 0
    while True:
        step_began = time.monotonic()
        pulse.begin_step()
        # First of all, so that nobody leaves before all hold the last step.
        members = session.engine.members() if settled else session.engine.settle(learnt)
        settled = False
        if cursor.stopping or cursor.samples_done == session.samples_total:
            pulse.now(Doing.APART)
            return
        wanted = read_control(session.run_dir)
        if wanted is Action.KILL:
            raise DismissedError(wanted)
        if wanted is Action.LEAVE:
            session.engine.leave()
        pulse.now(Doing.COMPUTING)
        step = next_step(session, cursor)
        computed = compute(session, step)
        pulse.now(Doing.WAITING)
        added_at = time.monotonic()
        tally = add_up(session, replace(computed, stop_wanted=float(wanted is Action.STOP)))
        if isinstance(tally, StepLost):
            continue  # nobody committed it; who is left does it again
        if tally.lacking:
            pulse.now(Doing.APART)
            await_scores(session, cursor, step, stopping=tally.stop_wanted > 0)
            continue
        sync_s = time.monotonic() - added_at
        grad_norm = commit(session, step, tally)

        pulse.took(step.number)
        cursor.step = step.number
        cursor.samples_done += len(step.samples)
        cursor.stopping = tally.stop_wanted > 0
        committed = Committed(
            step=cursor.step,
            samples_done=cursor.samples_done,
            epoch=cursor.samples_done / len(session.rows),
            tokens=step.tokens,
            loss=tally.loss_sum / step.tokens,
            lr=step.lr,
            grad_norm=grad_norm,
            sync_s=sync_s,
            ce=tally.cross_entropy / step.tokens if session.scores else None,
            kl=tally.divergence / step.tokens if session.scores else None,
        )
        last = cursor.stopping or cursor.samples_done == session.samples_total
        tell(session, progress, committed, last=last)
        spent = Spent(
            samples=len(step.samples),
            whole_s=time.monotonic() - step_began,
            until_summed_s=sync_s,
            speeds=tally.speeds,
        )
        if told := speeds.add(members, spent, last=last):
            tell_speeds(session, cursor, told)
        reports.add(committed)
        if alarm := watchdog.look(committed.loss):
            raise TrainError(f"step {cursor.step}: {alarm}{newest_checkpoint(session)}")
        if not last:
            look_back(session, cursor, reports)


def await_scores(session: Session, cursor: Cursor, step: Step, *, stopping: bool) -> None:
    """Some rank lacks its teacher's scores of a step, which nobody has committed: all leave before
    it if one was told to, or wait for their own, and do it again."""
    assert session.scores is not None
    session.gradients.clear()
    cursor.stopping = stopping
    if not stopping:
        session.scores.wait(
            step.number, step.share, lambda: read_control(session.run_dir) is not Action.RUN
        )


def look_back(session: Session, cursor: Cursor, reports: Reports) -> None:
    """What is due after some steps: the held-out loss, and a checkpoint. A member that is lost
    meanwhile costs the loss, which comes again, and no checkpoint."""
    settings = session.settings
    try:
        measure(session, cursor, reports, last=False)
    except MemberLostError as error:
        session.say(f"the held-out loss of step {cursor.step} is left out: {error}")
    if settings.save_steps and cursor.step % settings.save_steps == 0:
        with suppress(MemberLostError):  # the next checkpoint compares again
            agree_on_weights(session.engine, session.model)
            tell_weights(session, cursor)
        if session.keeps_checkpoints:
            save_checkpoint(session, cursor)


def measure(session: Session, cursor: Cursor, reports: Reports, *, last: bool) -> None:
    """The held-out loss, where it is due."""
    if is_due(session, cursor, last=last) and (evaluation := evaluate(session, cursor)):
        reports.add_evaluation(evaluation)


def conclude(session: Session, cursor: Cursor, learnt: Learnt, reports: Reports) -> None:
    """What is due after the last step, by all who hold it."""
    done = cursor.samples_done == session.samples_total
    while True:
        try:
            measure(session, cursor, reports, last=done)
            agree_on_weights(session.engine, session.model)
            break
        except MemberLostError:
            session.engine.settle(learnt)
    session.checkpoints.wait()
    if session.keeps_checkpoints and cursor.step not in session.checkpoints.steps():
        save_checkpoint(session, cursor)
    session.checkpoints.close()
    reports.close()


def tell(session: Session, progress: Progress, committed: Committed, *, last: bool) -> None:
    """At most five events and one line a second, from the rank that speaks for the job."""
    event = progress.add(committed, last=last)
    members = session.engine.members()
    if event is None or not members.is_first:
        return
    session.events.emit("step", **event, world_size=len(members.ranks))
    if line := progress.line(event):
        print(line, flush=True)


def tell_weights(session: Session, cursor: Cursor) -> None:
    """Says that the ranks have just been found to hold the same."""
    members = session.engine.members()
    if members.is_first:
        session.events.emit(
            "weights", step=cursor.step, ranks=len(members.ranks), digest=session.model.digest()
        )


def tell_speeds(session: Session, cursor: Cursor, told: dict[str, Any]) -> None:
    if session.engine.members().is_first:
        session.events.emit("speed", step=cursor.step, **told)
        print(line_of(told), flush=True)


def answer_prompts(session: Session, phase: str) -> None:
    """Shows what the model says now, so that a person sees what training changes."""
    if not session.engine.members().is_first:
        return
    for prompt in session.settings.sample_prompts:
        text = session.model.answer(prompt, session.settings.sample_tokens)
        session.events.emit("sample", phase=phase, prompt=prompt, text=text)
        print(f"{phase} training, {prompt!r} -> {text!r}", flush=True)


def newest_checkpoint(session: Session) -> str:
    session.checkpoints.wait()
    steps = session.checkpoints.steps()
    return f"; checkpoints kept: {', '.join(map(str, steps))}" if steps else ""


def depart(session: Session, cursor: Cursor, reports: Reports, action: Action) -> None:
    """Leaves without the others: they go on without this rank, or nobody can go on."""
    if action is Action.KILL:
        print("leaving at once, as asked", flush=True)
        return
    session.checkpoints.wait()
    if session.keeps_checkpoints and cursor.step and cursor.step not in session.checkpoints.steps():
        save_checkpoint(session, cursor)
    session.checkpoints.close()
    reports.close()
    if action is Action.STOP:
        stop(session, cursor, together=False)
        return
    session.events.emit("left", step=cursor.step, samples_done=cursor.samples_done)
    print(f"left after step {cursor.step}, as asked", flush=True)


def stop(session: Session, cursor: Cursor, *, together: bool) -> None:
    """`together` says that the ranks agreed on it with this step, so that none goes beyond it."""
    kept = [0, *session.checkpoints.steps()]
    if session.keeps_checkpoints and cursor.step not in kept:
        raise TrainError(
            f"stopped after step {cursor.step}, whose checkpoint could not be written (the notice "
            "before this says why); a resume would start from an older one"
        )
    session.events.emit(
        "stopped", step=cursor.step, samples_done=cursor.samples_done, together=together
    )
    print(f"stopped after step {cursor.step}, as asked", flush=True)


def finish(session: Session, cursor: Cursor, learnt: Learnt, train_s: float) -> None:
    answer_prompts(session, "after")
    result = leave_result(session, cursor, learnt)
    session.events.emit(
        "finished",
        step=cursor.step,
        samples_done=cursor.samples_done,
        digest=session.model.digest(),
        result=str(result) if result else None,
        train_s=round(train_s, 2),
    )
    print(f"finished {cursor.step} steps in {duration(train_s)}", flush=True)


def leave_result(session: Session, cursor: Cursor, learnt: Learnt) -> Path | None:
    """The first rank writes the result. Where it may be lost meanwhile, nobody leaves before it is
    there: the next one writes it then."""
    engine = session.engine
    while True:
        try:
            result = write_result(session, cursor) if engine.members().is_first else None
        except OSError as error:
            raise TrainError(
                f"all {cursor.step} steps are done, and the result could not be written to "
                f"{session.run_dir} on {session.own.host}: {error.strerror}; make room there and "
                f"take it from the last checkpoint (sollol train --resume {session.run.job})"
            ) from error
        if not engine.heals:
            return result
        try:
            engine.exchange("the result is there")
        except MemberLostError:
            engine.settle(learnt)
        else:
            return result


def main(arguments: list[str]) -> int:
    return carry_out(arguments, train, (*FORESEEN, TrainError))


if __name__ == "__main__":
    begin(sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
