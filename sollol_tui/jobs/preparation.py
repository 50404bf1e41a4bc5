"""Brings a job to where its ranks can be started: the first time, after a pause, and after a change
of who takes part. Launches nothing.
"""

import logging

from sollol_tui.jobs import checkpoints
from sollol_tui.jobs.answering import have_answers
from sollol_tui.jobs.attended import Attended
from sollol_tui.jobs.fingerprints import difference, harmless_difference
from sollol_tui.jobs.holdings import workers_of
from sollol_tui.jobs.planner import resources, without
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.queue import selection_of
from sollol_tui.jobs.records import load
from sollol_tui.jobs.recovery import AWAY, is_hopeless, quarantine_reason, told, waits_for
from sollol_tui.jobs.regroup import bring_checkpoint, end_generation, lose, plan_next
from sollol_tui.jobs.requests import resting_place
from sollol_tui.jobs.room import shortage
from sollol_tui.jobs.roster import void_try
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.model.errors import HostError, NoWorkersError, SollolError, UnreachableError
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.states import JobState

log = logging.getLogger("sollol.supervisor")


async def prepare(case: Attended) -> None:
    has_begun = case.crew.progress.generation > 0
    if has_begun:
        if full := shortage(case.home):
            await _rest(case, Failure(host="", reason=full))
            return
        await _look_for_a_newer_checkpoint(case)
    await have_answers(case)
    errors = await case.crew.prepare()
    try:
        if errors:
            _go_on_without(case, errors)
        _check_workers(case)
    except RunFailedError as error:
        if not has_begun:
            raise
        if errors and all(isinstance(one, UnreachableError) for one in errors.values()):
            silent = told({host: one.message for host, one in errors.items()})
            await case.crew.dismiss_teachers()
            case.move(JobState.QUEUED, f"waits for {silent}")
            return
        await _rest(case, error.failure)
        return
    await case.crew.identify_teacher(case.crew.main)
    case.move(JobState.STARTING)


async def _look_for_a_newer_checkpoint(case: Attended) -> None:
    """Workers that were out of reach when the job left them may have the newest one, and so may
    those of before while it is not here."""
    if case.crew.plan.apart:
        return
    try:
        workers = case.crew.workers
        if (checkpoints.kept(case.home, case.job) or 0) < case.store.step(case.job):
            workers = workers_of(case.store, case.job)
        there = [worker for worker in workers if worker.place is not None]
        await checkpoints.bring_newest(case.home, case.job, there)
    except (SollolError, OSError) as error:
        log.warning("going on from the checkpoint that is here: %s", error)


async def _rest(case: Attended, failure: Failure) -> None:
    """What was learnt is kept: nothing runs, so the job rests again."""
    where = f"{failure.host}: " if failure.host else ""
    case.crew.let_go()
    case.move(JobState.PAUSING)
    await case.crew.dismiss_teachers()
    place = resting_place(case.store, case.job)
    case.move(JobState.PAUSED, f"{place}; {where}{failure.reason}")


def _check_workers(case: Attended) -> None:
    """Raises RunFailedError when the job would not be what it was, or when two workers would
    not compute the same."""
    if case.crew.progress.generation > 0 and (problem := case.crew.model_problem()):
        raise RunFailedError(Failure(host="", reason=problem))
    _compare_workers(case)


def _compare_workers(case: Attended) -> None:
    """Raises RunFailedError when two workers would not compute the same."""
    environments = {w.host.name: w.place.environment for w in case.crew.workers if w.place}
    if found := difference(environments):
        raise RunFailedError(Failure(host=found[0], reason=found[1]))
    if notice := harmless_difference(environments):
        log.warning("%s", notice)


def _go_on_without(case: Attended, errors: dict[str, HostError]) -> None:
    record = case.store.job(case.job)
    everyone = case.crew.inventory.with_coordinator()
    at_least = selection_of(record, case.spec, everyone).at_least
    plan, slots = case.crew.plan, case.store.given_slots(case.job)
    try:
        for host, error in errors.items():
            plan = without(plan, host, str(error), at_least, slots)
    except NoWorkersError:
        host, error = next(iter(errors.items()))
        reason = error.message + (f"; {error.remedy}" if error.remedy else "")
        raise RunFailedError(Failure(host=host, reason=reason)) from error
    with case.store.transaction():
        case.store.note_plan(case.job, plan)
        case.store.leases.free(case.job)
        case.store.leases.take(case.job, resources(plan))
    for host, error in errors.items():
        log.warning("going on without %s: %s", host, error)
    case.meet_crew()


async def recover(case: Attended) -> None:
    """Ends the generation that runs, and prepares the next one with who is there and who is to
    be."""
    if case.is_launched:
        unverified = await end_generation(case.crew)
        if case.crew.progress.is_complete:  # its last step was quicker
            case.move(JobState.FINISHING)
            return
        for host, problem in unverified.items():
            case.crew.progress.lost[host] = problem
            lose(case.store, case.job, host, problem, is_there=False)
        if (there := case.crew.in_reach) and not case.crew.plan.apart:
            await bring_checkpoint(case.store, case.job, there, case.stage)
    away = {worker.host for worker in case.store.workers(case.job) if worker.state in AWAY}
    if not plan_next(case.store, case.job, case.crew, case.arrivals):
        await _wait_for_workers(case)
        return
    case.arrivals = {}
    case.meet_crew()
    errors = await case.crew.prepare()
    for host, error in errors.items():
        if host in away and isinstance(error, UnreachableError):
            void_try(case.store, case.job, host)
        lose(case.store, case.job, host, str(error), is_there=False)
    if errors:
        return  # without them, then
    try:
        _check_workers(case)
    except RunFailedError as error:
        await _rest(case, error.failure)
        return
    case.move(JobState.STARTING)


async def _wait_for_workers(case: Attended) -> None:
    """Nobody is left. The job goes on when enough of those that it may have are there again."""
    workers = case.store.workers(case.job)
    hopeless = [worker for worker in workers if is_hopeless(worker)]
    if hopeless and len(hopeless) == len([w for w in workers if w.state in AWAY]):
        worker = hopeless[0]
        reason = quarantine_reason(worker.reason)
        raise RunFailedError(Failure(host=worker.host, reason=reason))
    await case.crew.dismiss_teachers()
    record = case.store.job(case.job)
    with case.store.transaction():
        inventory = load(Inventory, record.inventory)
        case.store.note_wish(case.job, spec=case.spec, inventory=inventory, same_hosts=())
        case.move(JobState.QUEUED, waits_for(workers))
