"""How a job comes to rest: done, paused, or ended early. Nothing of it is left on any worker then,
and what could not be verified is said.
"""

import asyncio
from itertools import chain, repeat
from typing import Final

from sollol_tui.jobs import checkpoints
from sollol_tui.jobs.attended import Attended
from sollol_tui.jobs.recovery import told
from sollol_tui.jobs.regroup import PAUSE_GRACE_S, STOP_GRACE_S, bring_checkpoint
from sollol_tui.jobs.requests import resting_place
from sollol_tui.jobs.results import collect
from sollol_tui.jobs.room import HERE
from sollol_tui.jobs.students import collect_students
from sollol_tui.jobs.watch import LAST_WORDS_S
from sollol_tui.jobs.worker import RECONNECT_S, Ending
from sollol_tui.model.errors import UnreachableError
from sollol_tui.model.states import JobState

FINISH_LIMIT_S: Final = 30.0  # how long the other workers' last words are waited for


async def finish(case: Attended) -> None:
    """Brings the result here, however long its worker is out of reach, and makes sure that
    nothing is left of the run."""
    await _hear_last_words(case)
    best = ""
    for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
        case.stage("fetching the adapter")
        try:
            if case.crew.plan.apart:
                best = await collect_students(case)
            else:
                output = await collect(
                    case.home, case.job, case.spec, case.crew.with_result, case.output_dir
                )
                case.store.note_output(case.job, output)
            break
        except UnreachableError as error:
            case.stage(f"the adapter waits on {error}")
            await asyncio.sleep(pause_s)
    left = await case.crew.leave("kill", STOP_GRACE_S)
    left += await case.crew.dismiss_teachers()
    case.move(JobState.DONE, "; ".join(filter(None, [best, *left])))


async def _hear_last_words(case: Attended) -> None:
    """An elastic rank that is late is not waited for: the others have what it would learn."""
    limit_s = LAST_WORDS_S if case.crew.plan.is_elastic else FINISH_LIMIT_S
    async with case.crew.watch.watching():
        await case.crew.watch.hear_last_words(limit_s)


async def pause(case: Attended) -> bool:
    """Stops the ranks after a checkpoint, brings that here, and lets go of the workers. False when
    the training came to its end before."""
    if case.state is JobState.FINISHING:
        return False
    case.move(JobState.PAUSING)
    left: list[str] = []
    step = checkpoints.kept(case.home, case.job)
    if case.is_launched:
        left = await _stop_ranks(case)
        if case.crew.progress.is_complete:  # its last step was quicker
            case.move(JobState.FINISHING)
            return False
        is_wanted = not case.crew.plan.apart  # who learns apart keeps his own
        # With a full disk here it would take what the state needs.
        if is_wanted and HERE not in case.crew.progress.full:
            step = await _bring_checkpoint(case)
    else:
        case.crew.let_go()
    left += await case.crew.dismiss_teachers()
    done = case.store.step(case.job)
    place = resting_place(case.store, case.job)
    if HERE in case.crew.progress.full:
        place += "; the newest checkpoint stays on its workers"
    elif case.crew.plan.apart:
        place += "; each worker keeps the checkpoint of its student"
    elif done and step is None:
        place += "; there is no checkpoint, it will begin again"
    elif step is not None and step < done:
        place += f"; it goes on from checkpoint-{step}"
    if full := case.crew.progress.full:
        place += f"; {'; '.join(full.values())}: free some space there, then resume it"
    elif case.crew.progress.lost:
        place += f"; lost {told(case.crew.progress.lost)}"
    elif case.crew.progress.has_begun and (failure := case.crew.progress.failure):
        place += f"; {failure.host}: {failure.reason}"
    with case.store.transaction():
        if not {"cancel", "kill"} & set(case.store.open_requests(case.job)):
            case.move(JobState.PAUSED, "; ".join([place, *left]))
            return True
    await end(case, JobState.CANCELLED, "kill", "; ".join(left))
    return True


async def _bring_checkpoint(case: Attended) -> int | None:
    """The newest checkpoint of those who have a part in the job; returns its step. Who was given up
    is asked again only where nobody else holds the last step."""
    there = [w for w in case.crew.workers if w.host.name not in case.crew.progress.lost]
    answering = [worker for worker in there if not worker.given_up]
    step = await bring_checkpoint(case.store, case.job, answering, case.stage)
    if answering != there and (step or 0) < case.store.step(case.job):
        step = await bring_checkpoint(case.store, case.job, there, case.stage)
    return step


async def _stop_ranks(case: Attended) -> list[str]:
    """Ranks that have begun save a checkpoint; of the others there is nothing to save."""
    watch = case.crew.watch
    async with watch.watching():
        if case.crew.can_save:
            left = await case.crew.leave("stop", PAUSE_GRACE_S)
        else:
            left = await case.crew.leave("kill", STOP_GRACE_S)
        await watch.hear_last_words(LAST_WORDS_S)
    return left


async def end(case: Attended, state: JobState, action: Ending, reason: str) -> None:
    """Ends the job early: `state` is reached once nothing of it is left on any worker."""
    if state is JobState.CANCELLED:
        if case.state is JobState.STARTING:
            action = "kill"  # no step was taken that a checkpoint could keep
        case.move(JobState.STOPPING)
    left: list[str] = []
    if case.is_launched:
        async with case.crew.watch.watching():
            left = await case.crew.leave(action, STOP_GRACE_S)
            await case.crew.watch.hear_last_words(LAST_WORDS_S)
    left += await case.crew.dismiss_teachers()
    case.move(state, "; ".join(filter(None, [reason, *left])))
