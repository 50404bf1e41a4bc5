"""Removes what ended jobs have left: their rows, logs and copies here, their run directories on the
workers. Never touches a result folder, and forgets no job of which something stays somewhere."""

import asyncio
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts.runs import Run, Weight, weigh_runs
from sollol_tui.jobs.beginning import STAGED
from sollol_tui.jobs.holdings import ask_once, workers_of
from sollol_tui.jobs.output import owner
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import is_supervised
from sollol_tui.jobs.teacher_run import former_teachers, teaching_workers
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.errors import HostError
from sollol_tui.model.states import TERMINAL, JobState

_PRUNED: Final = ".pruned-"  # a job's folder on its way out
_AT_ONCE: Final = 8  # hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What one ended job takes, here and on its workers. `obstacles` maps places (a worker, "" for
    here) to why something stays there. `adapter` is "" unless its folder is gone, so that a
    worker's copy is the last one: then it says which folder that was."""

    job: str
    name: str
    state: JobState
    ended_at: float
    here_bytes: int
    workers: Mapping[str, int]
    obstacles: Mapping[str, str]
    adapter: str = ""

    @property
    def size_bytes(self) -> int:
        return self.here_bytes + sum(self.workers.values())

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "size_bytes": self.size_bytes}


def ended_jobs(store: Store, *, older_than_s: float = 0.0, keep: int = 0) -> list[str]:
    """The jobs that ended so long ago, the newest first, without the newest `keep` of all that have
    ended."""
    states = ", ".join(f"'{state}'" for state in sorted(TERMINAL))
    rows = store.connection.execute(
        f"SELECT id, ended_at FROM jobs WHERE state IN ({states})"
        " ORDER BY ended_at DESC, rowid DESC"
    ).fetchall()
    limit = time.time() - older_than_s
    return [row["id"] for row in rows[keep:] if row["ended_at"] <= limit]


async def weigh(store: Store, jobs: Sequence[str]) -> list[Remains]:
    """What these jobs take. Changes nothing."""
    return await _look(store, jobs, remove=False)


async def prune(store: Store, jobs: Sequence[str], *, forget: bool = False) -> list[Remains]:
    """Removes what these jobs have left; returns what that was, with the obstacles. A job with one
    stays in the list, and its logs with it, unless it is to be forgotten nevertheless."""
    remains = await _look(store, jobs, remove=True)
    for each in remains:
        if not each.obstacles or (forget and "" not in each.obstacles):
            await asyncio.to_thread(_forget, store, each.job)
    for folder in (*(store.home.root / "jobs").glob(f"{_PRUNED}*"), store.home.root / STAGED):
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return remains


async def _look(store: Store, jobs: Sequence[str], *, remove: bool) -> list[Remains]:
    by_host: dict[str, list[Worker]] = {}
    here: dict[str, dict[str, str]] = {}
    for job in jobs:
        problem = _obstacle_here(store, job)
        here[job] = {"": problem} if problem else {}
        for worker in () if problem and remove else _workers(store, job):
            by_host.setdefault(f"{worker.host.name}{worker.role}", []).append(worker)
    found: dict[str, dict[str, Weight]] = {}
    turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(host: str, workers: list[Worker]) -> None:
        async with turns:
            found[host] = await _weigh_host(workers, remove=remove)

    async with asyncio.TaskGroup() as group:
        for host, workers in by_host.items():
            group.create_task(ask(host, workers))
    in_order = {host: found[host] for host in by_host}
    return [await asyncio.to_thread(_remains, store, job, in_order, here[job]) for job in jobs]


def _workers(store: Store, job: str) -> list[Worker]:
    """All that have a run directory of the job: students, and the hosts of their teacher."""
    record = store.job(job)
    teachers = teaching_workers(store, record, lambda host, text: None)
    teachers += former_teachers(store, record, lambda host, text: None)
    return [*workers_of(store, job), *(each for each in teachers if each.place is not None)]


async def _weigh_host(workers: list[Worker], *, remove: bool) -> dict[str, Weight]:
    """The run directories of several jobs on one host, over one connection: that of the newest."""
    runs = [
        Run(job=worker.job, nonce=worker.nonce, path=worker.run_dir)
        for worker in workers
        if worker.run_dir.endswith(f"/runs/{worker.job}/{worker.host.name}{worker.role}")
    ]
    try:
        return await ask_once(workers[0], partial(weigh_runs, runs, remove=remove))
    except HostError as error:
        return {run.job: Weight(size_bytes=0, obstacle=error.message) for run in runs}


def _obstacle_here(store: Store, job: str) -> str:
    """Why nothing of a job may be removed at all; "" when it may."""
    record = store.job(job)
    folder = store.home.job(job)
    if record.state not in TERMINAL:
        return f"it is {record.state}"
    if is_supervised(store.home, job):
        return "its supervisor is still at work"
    if folder.resolve() in (place := Path(record.output_dir).resolve(), *place.parents):
        return f"its result lies in {folder}"
    return ""


def _remains(
    store: Store, job: str, found: Mapping[str, Mapping[str, Weight]], here: dict[str, str]
) -> Remains:
    row = store.connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
    weights = {host: of_host[job] for host, of_host in found.items() if job in of_host}
    state, output = JobState(row["state"]), Path(row["output_dir"])
    is_lost = state is JobState.DONE and owner(output) != job
    return Remains(
        job=job,
        name=row["name"],
        state=state,
        ended_at=row["ended_at"] or row["updated_at"],
        here_bytes=_size(store.home.job(job)),
        workers={host: weight.size_bytes for host, weight in weights.items()},
        obstacles=here
        | {host: weight.obstacle for host, weight in weights.items() if weight.obstacle},
        adapter=str(output) if is_lost else "",
    )


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_blocks * 512
            except OSError:
                continue  # it was removed meanwhile
    return total


def _forget(store: Store, job: str) -> None:
    """Takes a job out of the state. Its folder gets another name first: what is interrupted here is
    completed by the next prune."""
    folder = store.home.job(job)
    with store.transaction():
        if store.job(job).state not in TERMINAL:
            return
        if folder.exists():
            folder.rename(folder.with_name(f"{_PRUNED}{job}"))
        store.connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
