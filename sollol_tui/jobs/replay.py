"""Plays a recorded job into an empty state, up to any moment: its transitions, events, figures and
logs come as they came. Starts nothing; whoever looks at that state sees the job as it was.
"""

import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sollol_tui.jobs.home import Home
from sollol_tui.jobs.ingest import load_of
from sollol_tui.jobs.recording import attached, copy_job, copy_readings
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.events import Event, decode, finite, whole
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.states import UNLEASED, JobState, WorkerState

_PAGE: Final = 500  # rows of the state
_PIECE: Final = 1024 * 1024  # of a log
_TRANSITIONS: Final = "SELECT * FROM transitions WHERE job = ? ORDER BY rowid"
_COUNTS: Final = ("step", "max_steps", "samples_done", "samples_total", "world_size")
_NUMBERS: Final = ("loss", "samples_per_s", "eta_s")
_NOTED: Final = frozenset({"step", "host_metrics"})  # of which the state keeps the last
_WORKERS: Final = {  # what a job's state says of workers that have not said more
    JobState.PROVISIONING: WorkerState.PROVISIONING,
    JobState.STARTING: WorkerState.READY,
}


@dataclass(frozen=True, slots=True)
class _Moment:
    due: float
    act: Callable[[], None]


class Player:
    """`begins` and `ends` are times of the coordinator that recorded it, `reached` is how far it
    was played."""

    def __init__(self, source: Home, job: str, target: Store) -> None:
        self._recorded = Store(source)  # brings an older recording to this version
        self._target = target
        self._job = job
        row = self._row("SELECT * FROM jobs WHERE id = ?", job)
        self._final = dict(row)
        self.inventory = load(Inventory, row["inventory"])
        self.begins: float = row["created_at"]
        newest = self._row("SELECT MAX(seen_at) AS at FROM events WHERE job = ?", job)["at"]
        self.ends: float = max(row["updated_at"], newest or 0.0)
        self.reached = self.begins
        self._grown: dict[Path, bytearray] = {}
        self._figures: dict[str, Any] = {}
        self._newest: tuple[int, int] = (0, 0)
        self._set_up(source)
        self._moments = heapq.merge(*self._lanes(source), key=lambda moment: moment.due)
        self._next = next(self._moments, None)

    def close(self) -> None:
        self._recorded.close()

    @property
    def next_due(self) -> float | None:
        """When the next thing happened; None behind the last one."""
        return None if self._next is None else self._next.due

    def play(self, until: float) -> None:
        """Goes on to a moment; never back."""
        self.reached = max(self.reached, min(until, self.ends))
        if self._next is None or self._next.due > until:
            return
        with self._target.transaction():
            while self._next is not None and self._next.due <= until:
                self._next.act()
                self._next = next(self._moments, None)
            if self._figures:
                self._target.note_progress(self._job, self._figures)
                self._figures = {}
        for path, data in self._grown.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(data)
        self._grown.clear()

    def _set_up(self, source: Home) -> None:
        """The job as it was when it was made, and hosts as they were heard of."""
        with attached(self._target, source):
            copy_job(self._target, self._job)
            copy_readings(self._target, self.inventory.file)
        self._set(
            "UPDATE jobs SET state = 'queued', reason = '', stage = '', traceback = '', step = 0,"
            " samples_done = 0, generation = 0, main_port = NULL, started_at = NULL,"
            " ended_at = NULL, loss = NULL, first_loss = NULL, samples_per_s = NULL, eta_s = NULL,"
            " world_size = NULL, updated_at = created_at WHERE id = ?",
            self._job,
        )
        (made,) = self._rows(f"{_TRANSITIONS} LIMIT 1", self._job)
        self._set("INSERT INTO transitions VALUES (?, ?, ?, ?, ?)", *made)
        self._set(
            "UPDATE readings SET at = MIN(at, ?), since = MIN(since, ?)", self.begins, self.begins
        )

    def _lanes(self, source: Home) -> Iterator[Iterator[_Moment]]:
        yield self._transitions()
        yield self._requests()
        yield self._events()
        folder = source.job(self._job)
        target = self._target.home.job(self._job)
        for file in sorted(folder.glob("*/events.*.jsonl")):
            yield self._spoken(file, target / file.parent.name / file.name)
        for file in sorted(folder.glob("*/log.*")):
            yield self._logged(file, target / file.parent.name)

    def _transitions(self) -> Iterator[_Moment]:
        rows = self._rows(_TRANSITIONS, self._job)
        for row in rows[1:]:  # the first one made the job
            yield _Moment(row["at"], lambda row=row: self._move(row))  # type: ignore[misc]

    def _move(self, row: Any) -> None:
        """The job's state changes where it always does; its times are those of then."""
        new = JobState(row["new"])
        if not self._target.move_job(self._job, new, row["reason"]):
            return
        at, job = row["at"], self._job
        self._set("UPDATE transitions SET at = ? WHERE rowid = last_insert_rowid()", at)
        self._set("UPDATE jobs SET updated_at = ? WHERE id = ?", at, job)
        if new is JobState.RUNNING:
            begun = self._final["started_at"]
            self._set("UPDATE jobs SET started_at = ? WHERE id = ?", begun, job)
        if new in UNLEASED:
            self._set("UPDATE workers SET state = 'gone' WHERE job = ?", job)
        if new is JobState.PROVISIONING:
            self._gather()
        if (stands := _WORKERS.get(new)) is not None:
            early = "'planned', 'provisioning', 'gone'"
            self._set(
                f"UPDATE workers SET state = ? WHERE job = ? AND state IN ({early})", stands, job
            )
        if new.is_terminal:
            end = (*(self._final[key] for key in ("ended_at", "traceback", "output_dir")), job)
            self._set(
                "UPDATE jobs SET ended_at = ?, traceback = ?, output_dir = ? WHERE id = ?", *end
            )

    def _gather(self) -> None:
        """Who takes part, but for those who were asked to join later."""
        for row in self._rows("SELECT * FROM workers WHERE job = ?", self._job):
            if not self._joins(row["host"]):
                self._take_in(row)

    def _joins(self, host: str) -> bool:
        sql = "SELECT 1 FROM requests WHERE job = ? AND kind = 'join' AND host = ?"
        return bool(self._rows(sql, self._job, host))

    def _take_in(self, row: Any) -> None:
        known = (row["job"], row["host"], row["position"], row["slots"], row["share"])
        self._set(
            "INSERT OR IGNORE INTO workers (job, host, position, state, slots, share)"
            " VALUES (?, ?, ?, 'planned', ?, ?)",
            *known,
        )

    def _requests(self) -> Iterator[_Moment]:
        rows = self._rows("SELECT * FROM requests WHERE job = ? ORDER BY created_at", self._job)
        for row in rows:
            yield _Moment(row["created_at"], lambda row=row: self._ask(row))  # type: ignore[misc]

    def _ask(self, row: Any) -> None:
        asked = (row["job"], row["kind"], row["created_at"], row["created_at"], row["host"])
        self._set(
            "INSERT INTO requests (job, kind, created_at, handled_at, host) VALUES (?, ?, ?, ?, ?)",
            *asked,
        )
        if row["kind"] == "join":
            sql = "SELECT * FROM workers WHERE job = ? AND host = ?"
            for worker in self._rows(sql, self._job, row["host"]):
                self._take_in(worker)

    def _events(self) -> Iterator[_Moment]:
        """What the state kept of events, in the order in which it was heard; a page at a time."""
        number = 0
        while page := self._rows(
            "SELECT rowid AS number, * FROM events WHERE job = ? AND rowid > ? ORDER BY rowid"
            f" LIMIT {_PAGE}",
            self._job,
            number,
        ):
            number = page[-1]["number"]
            for row in page:
                yield _Moment(row["seen_at"], lambda row=row: self._hear(row))  # type: ignore[misc]

    def _hear(self, row: Any) -> None:
        values = tuple(row)[1:]
        marks = ", ".join("?" * len(values))
        self._set(f"INSERT OR IGNORE INTO events VALUES ({marks})", *values)
        data: dict[str, Any] = json.loads(row["data"])
        host, unseen = row["host"], None
        match row["kind"]:
            case "ready":
                state = "training"
            case "worker":
                state = str(data.get("new"))
            case "agent_finished":
                state = "gone"
            case "sight":
                state, unseen = "", row["seen_at"] if data.get("reason") else None
            case _:
                return
        at = (self._job, host)
        if state in list(WorkerState):
            self._set("UPDATE workers SET state = ? WHERE job = ? AND host = ?", state, *at)
        self._set("UPDATE workers SET unseen_since = ? WHERE job = ? AND host = ?", unseen, *at)

    def _spoken(self, file: Path, target: Path) -> Iterator[_Moment]:
        """The lines of a worker's events, by its own clock as far as that differs from ours."""
        lag, due = self._lag(file.parent.name), self.begins
        with file.open("rb") as lines:
            for line in lines:
                event = decode(line)
                if event is not None:
                    due = max(due, event.at + lag)

                def say(line: bytes = line, event: Event | None = event, due: float = due) -> None:
                    self._grown.setdefault(target, bytearray()).extend(line)
                    if event is not None and event.kind in _NOTED:
                        self._note(event, due)

                yield _Moment(due, say)

    def _lag(self, host: str) -> float:
        """By how much a host's clock is behind ours, at most."""
        row = self._row(
            "SELECT MIN(seen_at - at) AS lag FROM events WHERE job = ? AND host = ?"
            " AND file LIKE 'events.%'",
            self._job,
            host,
        )
        return float(row["lag"] or 0.0)

    def _note(self, event: Event, due: float) -> None:
        if event.kind == "host_metrics":
            file = self.inventory.file
            self._target.note_reading(file, event.host, state="up", reason="", data=load_of(event))
            self._set("UPDATE readings SET at = ? WHERE host = ?", due, event.host)
            return
        told = (event.generation, event.count("step") or 0)
        if told >= self._newest:
            self._newest = told
            counts = {key: whole(event.data.get(key)) for key in _COUNTS}
            numbers = {key: finite(event.data.get(key)) for key in _NUMBERS}
            self._figures |= {k: v for k, v in (counts | numbers).items() if v is not None}
            self._figures.setdefault("first_loss", numbers["loss"])

    def _logged(self, file: Path, folder: Path) -> Iterator[_Moment]:
        """A log as it grew; one of which nobody took down when it came is there at once."""
        times = file.with_name(file.name.replace("log.", "times.", 1))
        sizes = [(self.begins, 0)]
        if times.is_file():
            for line in times.read_bytes().split(b"\n")[:-1]:
                moment, _, count = line.partition(b" ")
                if count.isdigit():
                    sizes.append((max(sizes[-1][0], float(moment)), int(count)))
        read, whole_size = 0, file.stat().st_size
        for at, size in [*sizes[1:], (sizes[-1][0], whole_size)]:
            if size > read:
                yield _Moment(at, self._growth(file, folder, read, min(size, whole_size), at))
                read = size

    def _growth(
        self, file: Path, folder: Path, start: int, end: int, at: float
    ) -> Callable[[], None]:
        def grow() -> None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file.open("rb") as log, (folder / file.name).open("ab") as copy:
                log.seek(start)
                left = end - start
                while left > 0 and (piece := log.read(min(left, _PIECE))):
                    copy.write(piece)
                    left -= len(piece)
            times = folder / file.name.replace("log.", "times.", 1)
            self._grown.setdefault(times, bytearray()).extend(b"%.3f %d\n" % (at, end))

        return grow

    def _set(self, sql: str, *values: Any) -> None:
        self._target.connection.execute(sql, values)

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return self._recorded.connection.execute(sql, values).fetchall()

    def _row(self, sql: str, *values: Any) -> Any:
        return self._recorded.connection.execute(sql, values).fetchone()
