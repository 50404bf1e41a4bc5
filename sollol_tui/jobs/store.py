"""The coordinator's state in SQLite: jobs, their workers and what is asked of them. The one
function that changes a job's state is `Store.move_job`. Leases, events and the queue have modules
of their own. Safe for many processes: WAL and short transactions."""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sollol_tui.jobs.database import open_database
from sollol_tui.jobs.events import note
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.leases import Leases
from sollol_tui.jobs.occupied import Occupation, occupations
from sollol_tui.jobs.records import JobRecord, WorkerRecord, dump
from sollol_tui.model.errors import JobError, NotFoundError
from sollol_tui.model.names import did_you_mean
from sollol_tui.model.states import (
    TERMINAL,
    UNATTENDED,
    UNLEASED,
    JobState,
    WorkerState,
    job_may_become,
    worker_may_become,
)

if TYPE_CHECKING:  # a reading command has no use for pydantic
    from sollol_tui.model.inventory import Inventory
    from sollol_tui.model.plan import Plan
    from sollol_tui.model.spec import JobSpec

Slots = dict[tuple[str, int | None], int]
_SHORTEST_PREFIX: Final = 3  # of an id's digits: fewer may begin another job's tomorrow


class Store:
    """One connection to the state, for one thread at a time."""

    def __init__(self, home: Home) -> None:
        self.home = home
        home.check_database()
        self.connection = open_database(home.database)
        self.leases = Leases(self.connection)
        self._occupations: list[Occupation] = []
        self._changes = 0  # of what is no row

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.connection.transaction():
            yield

    def version(self) -> int:
        """A number that grows when this or another connection has written, and when an errand has
        begun or ended, even by being killed."""
        if (now := occupations(self.home.root)) != self._occupations:
            self._occupations = now
            self._changes += 1
        others = int(self.connection.execute("PRAGMA data_version").fetchone()[0])
        return others + self.connection.total_changes + self._changes

    # jobs

    def add_job(
        self,
        *,
        spec: "JobSpec",
        plan: "Plan",
        inventory: "Inventory",
        model: str,
        dataset: str,
        name: str,
        output_dir: Callable[[str], str],
        claims: Iterable[str] = (),
        reason: str = "",
    ) -> str:
        """Adds a job at the end of the queue, which waits for `reason` and could use `claims`.
        `output_dir` tells the folder of a job's id."""
        now = time.time()
        with self.transaction():
            job = self._free_id()
            self.connection.execute(
                "INSERT INTO jobs (id, nonce, name, state, reason, spec, plan, inventory, model,"
                " dataset, output_dir, created_at, updated_at, max_steps, samples_total, turn)"
                " VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job, secrets.token_hex(16), name, reason),
                    *(dump(spec), dump(plan), dump(inventory), model, dataset),
                    *(output_dir(job), now, now),
                    *(plan.max_steps, plan.rows * spec.epochs, self._next_turn()),
                ),
            )
            self.leases.claim(job, claims)
            self._log_transition(job, None, JobState.QUEUED, "submitted")
        return job

    def _next_turn(self) -> int:
        return int(self.connection.execute("SELECT MAX(turn) + 1 FROM jobs").fetchone()[0] or 1)

    def _free_id(self) -> str:
        while True:
            job = f"j-{secrets.token_hex(3)}"
            if not self.connection.execute("SELECT 1 FROM jobs WHERE id = ?", (job,)).fetchone():
                return job

    def note_plan(self, job: str, plan: "Plan") -> None:
        """Stores who takes part now. Other workers of the job have no slot any more."""
        with self.transaction():
            self._set_job(job, plan=dump(plan))
            self.connection.execute(
                "UPDATE workers SET slots = '[]', share = 0, position = position + ? WHERE job = ?",
                (len(plan.workers), job),
            )
            self.connection.executemany(
                "INSERT INTO workers (job, host, position, state, slots, share)"
                " VALUES (?, ?, ?, 'planned', ?, ?) ON CONFLICT DO UPDATE SET"
                " position = excluded.position, slots = excluded.slots, share = excluded.share",
                [
                    (job, worker.host, number, _slots(worker), worker.share)
                    for number, worker in enumerate(plan.workers)
                ],
            )
            self.connection.executemany(
                "INSERT OR IGNORE INTO teachers (job, host, position) VALUES (?, ?, ?)",
                [
                    (job, host.host, number)
                    for number, host in enumerate(plan.teacher.hosts if plan.teacher else ())
                ],
            )

    def given_slots(self, job: str) -> Slots:
        """The slot of each device on which the job ever had a rank."""
        rows = self.connection.execute("SELECT * FROM slots WHERE job = ?", (job,))
        return {(row["host"], row["gpu"]): row["slot"] for row in rows}

    def find_job(self, wanted: str) -> str:
        """The job with that id, else the newest of that name, else the only one whose id begins so,
        with 3 characters or more. Raises NotFoundError, which names those that could be meant."""
        rows = self.connection.execute(
            "SELECT id, name FROM jobs ORDER BY created_at DESC, rowid DESC"
        ).fetchall()
        ids = [str(row["id"]) for row in rows]
        if wanted in ids:
            return wanted
        named = [str(row["id"]) for row in rows if row["name"] == wanted]
        if named:
            return named[0]
        start = wanted.removeprefix("j-")
        begins = [job for job in ids if job.removeprefix("j-").startswith(start)]
        if len(start) >= _SHORTEST_PREFIX and len(begins) == 1:
            return begins[0]
        if len(start) >= _SHORTEST_PREFIX and begins:
            raise NotFoundError(
                f"'{wanted}' begins {', '.join(begins)}", remedy="say which, with its whole id"
            )
        if meant := did_you_mean(wanted, [*ids, *(str(row["name"]) for row in rows)]):
            raise NotFoundError(f"no job '{wanted}'{meant}")
        some = f"; the newest are {', '.join(ids[:5])}" if ids else ""
        raise NotFoundError(f"no job '{wanted}'{some}", remedy="see: sollol jobs")

    def job(self, job: str) -> JobRecord:
        row = self.connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None:
            raise NotFoundError(f"no job '{job}'", remedy="see: sollol jobs")
        return JobRecord(
            id=row["id"],
            nonce=row["nonce"],
            name=row["name"],
            state=JobState(row["state"]),
            spec=row["spec"],
            plan=row["plan"],
            inventory=row["inventory"],
            model=row["model"],
            dataset=row["dataset"],
            output_dir=row["output_dir"],
            generation=row["generation"],
            main_port=row["main_port"],
            turn=row["turn"],
            same_hosts=tuple(json.loads(row["same_hosts"] or "[]")),
        )

    def live_jobs(self) -> list[str]:
        """The jobs that have not ended."""
        return self._jobs_not_in(TERMINAL)

    def attended_jobs(self) -> list[str]:
        """The jobs that need a supervisor."""
        return self._jobs_not_in(UNATTENDED)

    def _jobs_not_in(self, states: Iterable[JobState]) -> list[str]:
        rows = self.connection.execute(
            f"SELECT id FROM jobs WHERE state NOT IN ({_listed(states)}) ORDER BY turn"
        )
        return [row["id"] for row in rows]

    def step(self, job: str) -> int:
        """The last step that was heard of."""
        row = self.connection.execute("SELECT step FROM jobs WHERE id = ?", (job,)).fetchone()
        return int(row["step"])

    def live_outputs(self) -> dict[str, str]:
        """The output_dir of each live job, and the job."""
        rows = self.connection.execute(
            f"SELECT id, output_dir FROM jobs WHERE state NOT IN ({_listed(TERMINAL)})"
        )
        return {row["output_dir"]: row["id"] for row in rows}

    def move_job(self, job: str, new: JobState, reason: str = "") -> bool:
        """Changes a job's state; nothing else does. False when it is in that state already.
        Raises JobError for a step that the table does not allow. A job that waits, rests or has
        ended holds no lease, and who comes into the queue comes last."""
        with self.transaction():
            old = self.job(job).state
            if old is new:
                return False
            if not job_may_become(old, new):
                raise JobError(f"{job} is {old} and cannot become {new}")
            now = time.time()
            self.connection.execute(
                "UPDATE jobs SET state = ?, reason = ?, stage = '', updated_at = ? WHERE id = ?",
                (new, reason, now, job),
            )
            if new is JobState.RUNNING:
                self.connection.execute(
                    "UPDATE jobs SET started_at = COALESCE(started_at, ?) WHERE id = ?", (now, job)
                )
            if new is JobState.QUEUED:
                self._set_job(job, turn=self._next_turn())
            if old is JobState.QUEUED:
                self.leases.unclaim(job)
            if new in UNLEASED:
                self.leases.free(job)
                self._set_job(job, main_port=None, eta_s=None)
            if new in TERMINAL:
                self._set_job(job, ended_at=now)
            if new in UNATTENDED:
                self.connection.execute(
                    "UPDATE requests SET handled_at = ? WHERE job = ? AND handled_at IS NULL",
                    (now, job),
                )
            self._log_transition(job, old, new, reason)
        return True

    def _log_transition(self, job: str, old: JobState | None, new: JobState, reason: str) -> None:
        self.connection.execute(
            "INSERT INTO transitions (job, at, old, new, reason) VALUES (?, ?, ?, ?, ?)",
            (job, time.time(), old, new, reason),
        )

    def note_stage(self, job: str, stage: str) -> None:
        """What the job's state is busy with, in words."""
        self._set_job(job, stage=stage)

    def note_traceback(self, job: str, text: str) -> None:
        self._set_job(job, traceback=text)

    def note_launch(self, job: str, *, generation: int, main_port: int | None) -> None:
        """The intent to launch, stored before it is acted on: a repeat is the same launch."""
        self._set_job(job, generation=generation, main_port=main_port)

    def note_slots(self, job: str, plan: "Plan") -> None:
        """From now on these slots are given."""
        self.connection.executemany(
            "INSERT OR IGNORE INTO slots (job, slot, host, gpu) VALUES (?, ?, ?, ?)",
            [
                (job, rank.slot, worker.host, rank.gpu)
                for worker in plan.workers
                for rank in worker.ranks
            ],
        )

    def note_wish(
        self, job: str, *, spec: "JobSpec", inventory: "Inventory", same_hosts: Sequence[str]
    ) -> None:
        """What a job is planned from, the next time."""
        hosts = json.dumps(same_hosts) if same_hosts else None
        self._set_job(job, spec=dump(spec), inventory=dump(inventory), same_hosts=hosts)

    def note_waiting(self, job: str, reason: str, claims: Iterable[str]) -> None:
        """What a queued job waits for, and what it could use."""
        with self.transaction():
            if self.job(job).state is JobState.QUEUED:
                self._set_job(job, reason=reason)
                self.leases.claim(job, claims)

    def note_output(self, job: str, output: Path) -> None:
        """Where the job's adapter really is."""
        self._set_job(job, output_dir=str(output))

    def note_progress(self, job: str, values: Mapping[str, Any]) -> None:
        if (first := values.get("first_loss")) is not None:  # of the job, not of its newest launch
            self.connection.execute(
                "UPDATE jobs SET first_loss = COALESCE(first_loss, ?) WHERE id = ?", (first, job)
            )
        self._set_job(job, **{key: value for key, value in values.items() if key != "first_loss"})

    def _set_job(self, job: str, **values: Any) -> None:
        values["updated_at"] = time.time()
        names = ", ".join(f"{name} = ?" for name in values)
        self.connection.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*values.values(), job))

    # workers

    def workers(self, job: str) -> list[WorkerRecord]:
        rows = self.connection.execute(
            "SELECT * FROM workers WHERE job = ? ORDER BY position", (job,)
        )
        return [
            WorkerRecord(
                host=row["host"],
                state=WorkerState(row["state"]),
                slots=tuple(json.loads(row["slots"])),
                share=row["share"] or 0.0,
                environment=json.loads(row["environment"]) if row["environment"] else None,
                run_dir=row["run_dir"],
                reason=row["reason"],
                tries=row["tries"],
                tried_at=row["tried_at"],
                unseen_since=row["unseen_since"],
            )
            for row in rows
        ]

    def move_worker(self, job: str, host: str, new: WorkerState, reason: str = "") -> None:
        """Changes a worker's state; a step that its table does not allow is left out."""
        with self.transaction():
            row = self.connection.execute(
                "SELECT state FROM workers WHERE job = ? AND host = ?", (job, host)
            ).fetchone()
            if row is None or not worker_may_become(WorkerState(row["state"]), new):
                return
            self.connection.execute(
                "UPDATE workers SET state = ?, reason = ? WHERE job = ? AND host = ?",
                (new, reason, job, host),
            )
            old = WorkerState(row["state"])
            if WorkerState.LOST in (old, new) or new is WorkerState.QUARANTINED:
                note(self, job, "worker", host=host, old=old, new=new, reason=reason)

    def note_worker(self, job: str, host: str, **values: Any) -> None:
        """Sets `environment` (a dict), `run_dir`, `unseen_since`, `tries`, `tried_at` or `reason`
        of a worker."""
        if isinstance(values.get("environment"), dict):
            values["environment"] = json.dumps(values["environment"])
        names = ", ".join(f"{name} = ?" for name in values)
        self.connection.execute(
            f"UPDATE workers SET {names} WHERE job = ? AND host = ?", (*values.values(), job, host)
        )

    # requests

    def add_request(self, job: str, kind: str, host: str = "") -> None:
        """Asks something of a job, `host` says about whom. The same request twice is one."""
        with self.transaction():
            state = self.job(job).state
            if state.is_terminal:
                raise JobError(f"{job} is {state} already", remedy=f"see: sollol show {job}")
            self.connection.execute(
                "INSERT INTO requests (job, kind, host, created_at) SELECT ?, ?, ?, ? WHERE NOT"
                " EXISTS (SELECT 1 FROM requests WHERE job = ? AND kind = ? AND host = ?"
                " AND handled_at IS NULL)",
                (job, kind, host, time.time(), job, kind, host),
            )

    def open_requests(self, job: str) -> list[str]:
        rows = self.connection.execute(
            "SELECT kind FROM requests WHERE job = ? AND handled_at IS NULL ORDER BY id", (job,)
        )
        return [row["kind"] for row in rows]

    # readings of hosts

    def note_reading(
        self, inventory: str, host: str, *, state: str, reason: str, data: Mapping[str, Any]
    ) -> None:
        """The last that was heard of a host. `since` moves only when its state changes. Figures
        that are not among `data` stay as they were: a host at work does not tell all of them."""
        now = time.time()
        self.connection.execute(
            "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " since = CASE WHEN state = excluded.state THEN since ELSE excluded.since END,"
            " state = excluded.state, reason = excluded.reason, at = excluded.at,"
            " data = json_patch(data, excluded.data)",
            (inventory, host, state, reason, now, now, json.dumps(dict(data))),
        )


def _slots(worker: Any) -> str:
    return json.dumps([rank.slot for rank in worker.ranks])


def _listed(states: Iterable[JobState]) -> str:
    return ", ".join(sorted(f"'{state}'" for state in states))
