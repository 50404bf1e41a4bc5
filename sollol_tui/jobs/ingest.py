"""Reads the copied event files of a job: into its progress at once, each time they are read, and
into the state once, many together. Loses nothing by that: what was not stored is read again."""

import logging
from pathlib import Path
from typing import Any, Final

from sollol_tui.jobs import events
from sollol_tui.jobs.measured import note_speeds, note_sum
from sollol_tui.jobs.progress import Progress
from sollol_tui.jobs.store import Store
from sollol_tui.model.events import Event, decode, finite, whole
from sollol_tui.model.text import clean

log = logging.getLogger("sollol.supervisor")
MAX_STORED_BYTES: Final = 32 * 1024 * 1024  # of the events of one host in one job
_CHUNK: Final = 4 * 1024 * 1024
_NOT_STORED: Final = frozenset(
    {"host_metrics", "step"}
)  # kept in the copies; the state has the last


class Ingest:
    """One job's event files. `inventory` is the file under which its hosts' readings are known."""

    def __init__(self, store: Store, job: str, inventory: str, progress: Progress) -> None:
        self._store = store
        self._job = job
        self._inventory = inventory
        self._progress = progress
        self._read: dict[tuple[str, str], int] = {}
        self._sizes: dict[str, int] = {}
        self._stored: dict[tuple[str, str], int] = {}
        self._news: dict[tuple[str, str], list[tuple[int, Event]]] = {}
        self._metrics: dict[str, Event] = {}
        self._speed: Event | None = None

    def store(self) -> None:
        """Brings what was read since the last call into the state, in one transaction: each one
        waits for the disk."""
        if not self._news:
            return
        with self._store.transaction():
            for (host, file), news in self._news.items():
                reached = self._read[host, file]
                events.add_events(self._store, self._job, host, file, news, reached)
            self._store.note_progress(self._job, self._progress.figures())
            for host, event in self._metrics.items():
                self._note_metrics(host, event)
            if self._speed is not None:
                self._note_speed(self._speed)
        self._stored |= {key: self._read[key] for key in self._news}
        self._news.clear()
        self._metrics.clear()
        self._speed = None

    def read(self, host: str, file: str, path: Path) -> None:
        """Takes the whole lines that `path`, the copy of `file` of `host`, has got since."""
        if not file.startswith("events."):
            return
        while self._read_chunk(host, file, path):
            self.store()  # a flood does not gather in memory

    def _read_chunk(self, host: str, file: str, path: Path) -> bool:
        start = self._read.get((host, file), 0)
        with path.open("rb") as copy:
            copy.seek(start)
            data = copy.read(_CHUNK)
        end = data.rfind(b"\n") + 1
        if not end:
            # A line that fills the whole chunk is not an event of ours; step over it.
            if len(data) == _CHUNK:
                self._read[host, file] = start + len(data)
                return True
            return False
        stored = self._position(host, file)
        news: list[tuple[int, Event]] = []
        offset = start
        for line in data[:end].splitlines(keepends=True):
            event = decode(line)
            if event is not None and (event.job, event.host) == (self._job, host):
                self._progress.apply(host, event)
                if event.kind == "host_metrics" and offset >= stored:
                    self._metrics[host] = event
                if event.kind == "speed" and offset >= stored:
                    self._speed = event
                if offset >= stored and event.kind not in _NOT_STORED and self._fits(host, line):
                    news.append((offset, event))
            offset += len(line)
        self._read[host, file] = offset
        if offset > stored:
            self._news.setdefault((host, file), []).extend(news)
        return len(data) == _CHUNK

    def _position(self, host: str, file: str) -> int:
        """How far the state holds a file."""
        if (host, file) not in self._stored:
            self._stored[host, file] = events.position(self._store, self._job, host, file)
        return self._stored[host, file]

    def _fits(self, host: str, line: bytes) -> bool:
        """Whether the state takes one more event of a host: a disk is not filled by what one says.
        The copies have the rest."""
        if host not in self._sizes:
            self._sizes[host] = events.size(self._store, self._job, host)
        before = self._sizes[host]
        self._sizes[host] += len(line)
        if before < MAX_STORED_BYTES <= self._sizes[host]:
            log.warning("%s says too much: its further events are only in its copies", host)
        return self._sizes[host] < MAX_STORED_BYTES

    def _note_speed(self, event: Event) -> None:
        """For the plans of later jobs."""
        progress = self._progress
        note_speeds(self._store, self._inventory, self._job, progress.plan, progress.ready, event)
        note_sum(self._store, self._inventory, self._job, progress.plan, event)

    def _note_metrics(self, host: str, event: Event) -> None:
        data = load_of(event)
        self._store.note_reading(self._inventory, host, state="up", reason="", data=data)


def load_of(event: Event) -> dict[str, Any]:
    """How busy a host is, as the state keeps it, from its `host_metrics`."""
    gpus = event.data.get("gpus")
    return {
        "cpu_percent": event.number("cpu_percent"),
        "ram_used_bytes": event.count("ram_used_bytes"),
        "ram_total_bytes": event.count("ram_total_bytes"),
        "gpus": [_gpu(gpu) for gpu in gpus[:64] if isinstance(gpu, dict)]
        if isinstance(gpus, list)
        else [],
    }


def _gpu(raw: dict[str, Any]) -> dict[str, Any]:
    figures = {key: finite(raw.get(key)) for key in ("util_percent", "temp_c")}
    counts = {key: whole(raw.get(key)) for key in ("vram_used_bytes", "vram_total_bytes")}
    name = clean(str(raw.get("name", "GPU")), limit=60)
    return {"index": whole(raw.get("index")) or 0, "name": name, **figures, **counts}
