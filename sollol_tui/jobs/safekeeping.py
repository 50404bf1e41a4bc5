"""Brings a running job's newest checkpoint here: seldom, whole, and never at the job's cost.

Decides nothing about the job; what goes wrong here is a notice."""

import asyncio
import logging
import shutil
from contextlib import suppress
from functools import partial
from typing import Final

from sollol_tui.hosts.saved import list_saved
from sollol_tui.jobs.checkpoints import bring_newest, kept
from sollol_tui.jobs.events import note
from sollol_tui.jobs.holdings import workers_of
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.errors import HostError, StateError
from sollol_tui.model.plan import Plan
from sollol_tui.model.states import JobState, WorkerState
from sollol_tui.model.units import GIB, format_bytes

log = logging.getLogger("sollol.supervisor")
EVERY_S: Final = 60.0  # at most so often
REST: Final = 9.0  # times as long as the last one took: a tenth of the link is the most it gets
RESERVE: Final = GIB  # left free on this machine's disk, which holds the state too
_LOOK_S: Final = 2.0
_AWAY: Final = (WorkerState.LOST, WorkerState.QUARANTINED, WorkerState.GONE)


class _NoRoomError(Exception):
    """The checkpoint would fill this machine's disk."""


async def keep_safe(store: Store, job: str, over: asyncio.Event) -> None:
    """Brings each new checkpoint, or the newest of several, until `over`."""
    clock = asyncio.get_running_loop().time
    due, told = 0.0, ""
    while not over.is_set():
        with suppress(StateError):  # busy: the next look is soon
            if clock() >= due and _is_due(store, job):
                began = clock()
                problem = await _while_it_runs(store, job, over)
                if problem and problem != told:
                    log.warning("%s", problem)
                    note(store, job, "notice", message=problem)
                told = problem
                due = clock() + max(EVERY_S, REST * (clock() - began))
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await over.wait()


def _is_due(store: Store, job: str) -> bool:
    """Whether the job runs and its ranks have told of a checkpoint that is not here."""
    if store.job(job).state is not JobState.RUNNING:
        return False
    row = store.connection.execute(
        "SELECT MAX(json_extract(data, '$.step')) AS step FROM events"
        " WHERE job = ? AND kind = 'checkpoint'",
        (job,),
    ).fetchone()
    step = row["step"]
    is_new = isinstance(step, int) and step > (kept(store.home, job) or 0)
    # Of students who learn apart each worker has other ones.
    return is_new and not load(Plan, store.job(job).plan).apart


async def _while_it_runs(store: Store, job: str, over: asyncio.Event) -> str:
    """Brings the newest one; given up when the job does something else. Returns what went wrong."""
    bringing = asyncio.create_task(_bring(store, job))
    while not bringing.done():
        if over.is_set() or store.job(job).state is not JobState.RUNNING:
            bringing.cancel()
        await asyncio.wait({bringing}, timeout=_LOOK_S)
    if bringing.cancelled():
        return ""
    match bringing.exception():
        case None:
            return ""
        case HostError() as error:
            return f"the newest checkpoint is not brought here: {error}; its workers keep it"
        case _NoRoomError() | OSError() as error:
            reason = getattr(error, "strerror", None) or str(error)
            return (
                f"the newest checkpoint is not brought here: {reason} in {store.home.root}; the "
                "training goes on, and its workers keep it"
            )
        case error:
            log.error("the newest checkpoint is not brought here", exc_info=error)
            return f"the newest checkpoint is not brought here: sollol itself failed: {error!r}"


async def _bring(store: Store, job: str) -> None:
    away = {row.host for row in store.workers(job) if row.state in _AWAY}
    workers = [worker for worker in workers_of(store, job) if worker.host.name not in away]
    here = kept(store.home, job) or 0
    holders, size = await _holders_of_newest(workers, here)
    free = shutil.disk_usage(store.home.root).free
    if free - size < RESERVE:
        raise _NoRoomError(f"{format_bytes(size)} do not fit, {format_bytes(free)} are free")
    step = await bring_newest(store.home, job, holders)
    if step is not None and step > here:
        note(store, job, "checkpoint_here", step=step, size_bytes=size)


async def _holders_of_newest(workers: list[Worker], here: int) -> tuple[list[Worker], int]:
    """Who has the newest checkpoint of those that are not here, and its size in bytes. Raises
    HostError when nobody can be asked."""
    found: list[tuple[int, int, Worker]] = []
    failed: HostError | None = None
    for worker in workers:
        try:
            saved = await worker.over_ssh(partial(list_saved, f"{worker.run_dir}/checkpoints"))
        except HostError as error:
            failed = error
            continue
        found += [(each.step, each.size, worker) for each in saved if each.step > here]
    if failed is not None and not found:
        raise failed
    newest = max((step for step, _, _ in found), default=0)
    held = [(size, worker) for step, size, worker in found if step == newest]
    return [worker for _, worker in held], max((size for size, _ in held), default=0)
