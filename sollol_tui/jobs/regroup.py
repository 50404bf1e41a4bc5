"""The way from one generation of a job to the next: what runs is ended, the newest checkpoint comes
here, and who takes part is planned anew. Launches nothing, and decides neither when nor why.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, repeat
from typing import Final

from sollol_tui.jobs import checkpoints
from sollol_tui.jobs.addresses import with_own_addresses
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.events import note
from sollol_tui.jobs.leases import TakenError
from sollol_tui.jobs.planner import resources, with_workers
from sollol_tui.jobs.records import load
from sollol_tui.jobs.recovery import AWAY, may_try, tries_after_loss
from sollol_tui.jobs.roster import begin_try, membership_requests, settle
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.watch import LAST_WORDS_S
from sollol_tui.jobs.worker import RECONNECT_S, Worker
from sollol_tui.model.errors import HostError
from sollol_tui.model.plan import Plan, PlannedWorker
from sollol_tui.model.states import WorkerState

log = logging.getLogger("sollol.supervisor")
STOP_GRACE_S: Final = 60.0  # for the step in flight and its checkpoint
PAUSE_GRACE_S: Final = 150.0  # a pause is for the checkpoint: the agent itself gives up before


async def end_generation(crew: Crew) -> dict[str, str]:
    """Ends the ranks, after a checkpoint where they can still save one. Returns the workers of
    which that could not be verified, in sentences: they are as good as lost."""
    async with crew.watch.watching():
        if crew.can_save:
            problems = await crew.halt("stop", PAUSE_GRACE_S)
        else:
            problems = await crew.halt("kill", STOP_GRACE_S)
        await crew.watch.hear_last_words(LAST_WORDS_S)
    return problems


async def bring_checkpoint(
    store: Store, job: str, workers: Iterable[Worker], tell: Callable[[str], None]
) -> int | None:
    """The newest checkpoint is here before the job rests or is launched anew, however long that
    takes; returns its step."""
    there = [worker for worker in workers if worker.place is not None]
    for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
        try:
            return await checkpoints.bring_newest(store.home, job, there)
        except (HostError, OSError) as error:
            tell(f"the checkpoint waits on {error}")
            await asyncio.sleep(pause_s)
    raise AssertionError("unreachable")


def lose(store: Store, job: str, host: str, reason: str, *, is_there: bool) -> None:
    """Notes that a worker is lost; one that is not `is_there` is not looked for at once."""
    now = time.time()
    worker = next(worker for worker in store.workers(job) if worker.host == host)
    with store.transaction():
        store.move_worker(job, host, WorkerState.LOST, reason)
        tries = worker.tries
        if worker.state is not WorkerState.LOST:
            is_elastic = load(Plan, store.job(job).plan).is_elastic
            tries = tries_after_loss(worker, now, is_elastic=is_elastic)
        store.note_worker(job, host, tries=tries, reason=reason)
        if not is_there:
            store.note_worker(job, host, tried_at=now)


def leave_alone(store: Store, job: str, host: str, reason: str) -> None:
    """Quarantines a lost worker whose host somebody there wants for something else: nothing is
    launched there before somebody here asks for it."""
    told = f"{reason}, so it is left alone; bring it back: sollol join {job} {host}"
    store.move_worker(job, host, WorkerState.QUARANTINED, told)


def plan_next(store: Store, job: str, crew: Crew, arrivals: dict[str, Worker]) -> bool:
    """Plans the next generation and leases what it needs, in one transaction: of the old one who is
    there and not asked to leave, who is back and whose turn it is to be tried again, and then
    `arrivals`. False when that is nobody."""
    while True:
        try:
            return _plan_next(store, job, crew, [worker.planned for worker in arrivals.values()])
        except TakenError as error:
            if not arrivals:
                raise
            asked = {r.host for r in membership_requests(store, job) if r.kind == "join"}
            for host in arrivals:
                note(store, job, "notice", host=host, message=f"could not join: {error}")
                if host in asked:
                    give_up_arrival(store, job, host, str(error))
                else:  # a lost worker on its way back
                    lose(store, job, host, str(error), is_there=False)
            arrivals.clear()


def give_up_arrival(store: Store, job: str, host: str, reason: str) -> None:
    """A host that was to join does not: nothing of the run has changed."""
    with store.transaction():
        settle(store, job, "join", host)
        for state in (WorkerState.LEAVING, WorkerState.GONE):
            store.move_worker(job, host, state, reason)


def _plan_next(store: Store, job: str, crew: Crew, arrivals: list[PlannedWorker]) -> bool:
    now = time.time()
    with store.transaction():
        asked = membership_requests(store, job)
        leaving = {request.host for request in asked if request.kind == "leave"}
        known = {worker.host: worker for worker in store.workers(job)}
        again = {
            host
            for host, worker in known.items()
            if worker.state is WorkerState.LOST
            and may_try(worker, now)
            # Who is out of sight would be waited for by all the others. Once the next generation
            # runs it is looked for beside it.
            and not crew.watch.unseen.get(host)
        }
        stay = [
            worker
            for worker in crew.plan.workers
            if worker.host not in leaving
            and (known[worker.host].state not in AWAY or worker.host in again)
        ]
        old = {worker.host for worker in stay}
        come = [w for w in arrivals if w.host not in old and w.host not in leaving]
        for host in leaving & known.keys():
            settle(store, job, "leave", host)
            for state in (WorkerState.LEAVING, WorkerState.GONE):
                store.move_worker(job, host, state)
        if not (stay or come):
            return False
        for host in again & old:
            begin_try(store, job, host)
        plan = with_workers(replace(crew.plan, lit=()), [*stay, *come], store.given_slots(job))
        plan = with_own_addresses(plan, crew.inventory)
        store.leases.free(job)
        store.leases.take(job, resources(plan))
        store.note_plan(job, plan)
        store.note_launch(job, generation=store.job(job).generation, main_port=None)
        for worker in come:
            settle(store, job, "join", worker.host)
    return True
