"""Reads the state into a Snapshot: the one place that turns rows into what people see."""

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import psutil

from sollol_tui.jobs.database import told_if_damaged
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.occupied import occupations
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import NotFoundError
from sollol_tui.model.events import finite, whole
from sollol_tui.model.inventory import ConnectionKind, Host, Inventory
from sollol_tui.model.snapshot import (
    CoordinatorView,
    EvaluationView,
    GpuReading,
    HostState,
    HostView,
    JobView,
    JobWorkerView,
    Snapshot,
    TeacherView,
)
from sollol_tui.model.states import TERMINAL, UNLEASED, JobState

MAX_JOBS: Final = 200
# Not all of them: the inventory that a job was planned with may be long, and nobody sees it here.
_COLUMNS: Final = (
    "id, name, state, reason, stage, step, max_steps, samples_done, samples_total, loss,"
    " first_loss, samples_per_s, eta_s, world_size, model, dataset, output_dir, traceback,"
    " created_at, started_at, ended_at, updated_at"
)


@told_if_damaged
def read_snapshot(store: Store, inventory: Inventory) -> Snapshot:
    """The cluster as the state knows it: hosts in the inventory's order, jobs newest first."""
    jobs = read_jobs(store)
    held: dict[str, tuple[str, float | None]] = {
        worker.host: (job.id, worker.share)
        for job in jobs
        if job.state not in UNLEASED
        for worker in job.workers
        if worker.slots
    }
    for job in jobs:
        for teacher in () if job.state in UNLEASED else job.teachers:
            held.setdefault(teacher.host, (job.id, None))
    readings = {
        row["host"]: row
        for row in store.connection.execute(
            "SELECT * FROM readings WHERE inventory = ?", (inventory.file,)
        )
    }
    errands = {
        teacher.host: teacher.duty
        for job in jobs
        if job.state not in UNLEASED
        for teacher in job.teachers
    }
    errands |= {each.host: each.title for each in occupations(store.home.root)}
    everyone = inventory.with_coordinator().hosts
    local = {host.name for host in everyone if host.connection is ConnectionKind.LOCAL}
    return Snapshot(
        at=time.time(),
        inventory=inventory.file,
        coordinator=CoordinatorView(
            cpu_percent=psutil.cpu_percent(),
            ram_percent=psutil.virtual_memory().percent,
            takes_part=any(host in local for host in held),
        ),
        hosts=tuple(
            _host(
                host,
                readings.get(host.name),
                *held.get(host.name, (None, None)),
                errand=errands.get(host.name),
            )
            for host in inventory.hosts
        ),
        jobs=jobs,
    )


@told_if_damaged
def read_jobs(
    store: Store, limit: int | None = MAX_JOBS, *, states: Collection[JobState] = ()
) -> tuple[JobView, ...]:
    """The newest jobs, at most `limit` of them, newest first; only those in one of the `states`,
    if any."""
    given = ", ".join("?" * len(states))
    wanted = f"WHERE state IN ({given})" if states else ""
    newest = f"SELECT id FROM jobs {wanted} ORDER BY created_at DESC, id LIMIT ?"
    values = (*(state.value for state in states), -1 if limit is None else limit)
    rows = store.connection.execute(
        f"SELECT {_COLUMNS} FROM jobs WHERE id IN ({newest}) ORDER BY created_at DESC, id", values
    ).fetchall()
    workers: dict[str, list[sqlite3.Row]] = {}
    for worker in store.connection.execute(
        f"SELECT * FROM workers WHERE job IN ({newest}) ORDER BY position", values
    ):
        workers.setdefault(worker["job"], []).append(worker)
    teachers: dict[str, list[sqlite3.Row]] = {}
    for teacher in store.connection.execute(
        f"SELECT * FROM teachers WHERE job IN ({newest}) ORDER BY position", values
    ):
        teachers.setdefault(teacher["job"], []).append(teacher)
    places = _places(store)
    return tuple(
        _job(
            row,
            workers.get(row["id"], ()),
            teachers.get(row["id"], ()),
            places.get(row["id"]),
        )
        for row in rows
    )


def _places(store: Store) -> dict[str, int]:
    """The places of the queued jobs in the queue, from 1."""
    queued = store.connection.execute("SELECT id FROM jobs WHERE state = 'queued' ORDER BY turn")
    return {row["id"]: number for number, row in enumerate(queued, 1)}


@told_if_damaged
def read_job(store: Store, job: str) -> JobView:
    """Raises NotFoundError."""
    row = store.connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job,)).fetchone()
    if row is None:
        raise NotFoundError(f"no job '{job}'", remedy="see: sollol jobs")
    workers = store.connection.execute(
        "SELECT * FROM workers WHERE job = ? ORDER BY position", (job,)
    ).fetchall()
    teachers = store.connection.execute(
        "SELECT * FROM teachers WHERE job = ? ORDER BY position", (job,)
    ).fetchall()
    return _job(row, workers, teachers, _places(store).get(job))


@told_if_damaged
def read_evaluations(store: Store, job: str) -> tuple[EvaluationView, ...]:
    """What the held-out rows said, in the order of steps; of a step done again, the last word."""
    known: dict[int, EvaluationView] = {}
    for event in read_events(store, job, ["evaluation"]):
        step, loss = whole(event.data.get("step")), finite(event.data.get("loss"))
        if step is not None and loss is not None:
            known[step] = EvaluationView(
                step=step,
                loss=loss,
                perplexity=finite(event.data.get("perplexity")),
                rows=whole(event.data.get("rows")),
            )
    return tuple(known[step] for step in sorted(known))


def _job(
    row: sqlite3.Row,
    workers: Sequence[sqlite3.Row],
    teachers: Sequence[sqlite3.Row],
    place: int | None,
) -> JobView:
    live = JobState(row["state"]) not in TERMINAL
    return JobView(
        id=row["id"],
        name=row["name"],
        state=JobState(row["state"]),
        reason=row["reason"] if place is None else f"#{place}: {row['reason']}",
        stage=row["stage"],
        queue_place=place,
        step=row["step"],
        max_steps=row["max_steps"],
        samples_done=row["samples_done"],
        samples_total=row["samples_total"],
        loss=row["loss"],
        first_loss=row["first_loss"],
        samples_per_s=row["samples_per_s"],
        eta_s=row["eta_s"] if live else None,
        world_size=row["world_size"],
        workers=tuple(
            JobWorkerView(
                host=worker["host"],
                state=worker["state"],
                reason=worker["reason"],
                slots=tuple(json.loads(worker["slots"])),
                share=worker["share"],
                unseen_since=worker["unseen_since"] if live else None,
            )
            for worker in workers
        ),
        teachers=tuple(
            TeacherView(
                host=teacher["host"],
                state=teacher["state"],
                reason=teacher["reason"],
                done=teacher["done"],
                total=teacher["total"],
                hits=teacher["hits"],
                tokens_per_s=teacher["tokens_per_s"],
                eta_s=teacher["eta_s"] if live else None,
            )
            for teacher in teachers
        ),
        model=row["model"],
        dataset=row["dataset"],
        output_dir=row["output_dir"],
        traceback=row["traceback"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        updated_at=row["updated_at"],
    )


def _host(
    host: Host,
    row: sqlite3.Row | None,
    job: str | None,
    share: float | None,
    *,
    errand: str | None,
) -> HostView:
    data: dict[str, Any] = json.loads(row["data"]) if row is not None else {}
    state = HostState(row["state"]) if row is not None else HostState.UNKNOWN
    figures = {
        key: data.get(key)
        for key in ("cpu_percent", "cpu_cores", "ram_used_bytes", "ram_total_bytes")
    }
    return HostView(
        name=host.name,
        state=state if host.enabled else HostState.DISABLED,
        reason=row["reason"] if row is not None else "",
        since=row["since"] if row is not None else None,
        at=row["at"] if row is not None else None,
        gpus=tuple(GpuReading(**gpu) for gpu in data.get("gpus", ())),
        disk_free_bytes=data.get("disk_free_bytes"),
        job=job,
        share=share,
        errand=errand,
        local=host.connection is ConnectionKind.LOCAL,
        **figures,
    )
