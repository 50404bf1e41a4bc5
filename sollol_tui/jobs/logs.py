"""Reads a job's logs from the coordinator's copies: merged over its ranks, new lines only."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from pathlib import Path
from typing import Final, Literal, Self

from sollol_tui.jobs.home import SUPERVISOR_LOG
from sollol_tui.jobs.log_times import Arrivals, size_before
from sollol_tui.model.errors import InputError, NotFoundError
from sollol_tui.model.names import COORDINATOR, not_found
from sollol_tui.model.snapshot import JobView, Keyed
from sollol_tui.model.text import clean_lines

_LOG: Final = re.compile(r"log\.(agent|\d{1,4})\.(\d{1,4})")
_CHUNK: Final = 64 * 1024
_File = tuple[str, int | None, Path]  # host, slot, copy
Slot = int | Literal["agent", "supervisor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine(Keyed):
    """One clean line. `slot` is None for the agent, and for the coordinator's supervisor; `at` is
    when it came here, to a second, None where nobody took that down."""

    host: str
    slot: int | None
    text: str
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChoice:
    """Which lines are wanted; None leaves a part open."""

    host: str | None = None
    slot: Slot | None = None
    since: float | None = None  # they came here at that time or later, to a second
    pattern: re.Pattern[str] | None = None  # stands somewhere in the line

    @classmethod
    def of(
        cls,
        *,
        host: str | None = None,
        slot: Slot | None = None,
        since: float | None = None,
        grep: str | None = None,
    ) -> Self:
        """Raises InputError when `grep` is no regular expression."""
        try:
            pattern = None if grep is None else re.compile(grep)
        except (re.error, OverflowError, RecursionError) as error:
            raise InputError.single("grep", f"{grep!r} is no regular expression: {error}") from None
        return cls(host=host, slot=slot, since=since, pattern=pattern)

    def check(self, job: JobView, folder: Path) -> None:
        """Raises NotFoundError when the job, whose copies are in that folder, has no such host or
        slot."""
        hosts = [worker.host for worker in job.workers]
        if self.host is not None and self.host not in hosts:
            raise not_found("no host", self.host, hosts, where=f" in {job.id}")
        if not isinstance(self.slot, int):
            return
        slots = {slot for worker in job.workers for slot in worker.slots}
        slots |= {slot for _, slot, _, _ in _files(folder) if slot is not None}
        if self.slot not in slots:
            known = ", ".join(map(str, sorted(slots))) or "none yet"
            raise NotFoundError(
                f"no slot {self.slot} in {job.id}", remedy=f"it has {known}; or --slot agent"
            )

    def takes_file(self, host: str, slot: int | None) -> bool:
        wanted = None if self.slot == "agent" else self.slot
        return self.host in (None, host) and (self.slot is None or slot == wanted)

    def takes(self, line: LogLine) -> bool:
        return self.pattern is None or self.pattern.search(line.text) is not None


EVERYTHING: Final = LogChoice()


class LogReader:
    """Remembers how far it has read each file; `tail_bytes` starts it near their ends."""

    def __init__(
        self, folder: Path, choice: LogChoice = EVERYTHING, *, tail_bytes: int | None = None
    ) -> None:
        self._folder = folder
        self._choice = choice
        self._tail_bytes = tail_bytes
        self._positions: dict[Path, int] = {}
        self._arrivals: dict[Path, Arrivals] = {}
        self._waiting: dict[Path, deque[LogLine]] = {}  # read, and younger than another's

    def read(self, max_lines: int = 2000) -> list[LogLine]:
        """Lines that came since the last call, `max_lines` at most: the oldest first, and of those
        that came in the same second in order of host and slot. A last line without a newline
        waits."""
        files = self._chosen()
        heads = [head for order in range(len(files)) if (head := self._head(files, order))]
        heapify(heads)
        lines: list[LogLine] = []
        while heads and len(lines) < max_lines:
            _, order = heads[0]
            lines.append(self._waiting[files[order][2]].popleft())
            if head := self._head(files, order):
                heapreplace(heads, head)
            else:
                heappop(heads)
        return lines

    def _head(self, files: list[_File], order: int) -> tuple[float, int] | None:
        """When the next line of a file came, and the file's place; None when it has no whole one.
        Lines whose time is not known keep their place behind the one before."""
        host, slot, path = files[order]
        waiting = self._waiting.setdefault(path, deque())
        while not waiting:
            fresh = self._read(path)
            if fresh is None:
                return None
            found = (LogLine(host=host, slot=slot, text=text, at=at) for text, at in fresh)
            waiting.extend(line for line in found if self._choice.takes(line))
        return waiting[0].at or 0.0, order

    def _chosen(self) -> list[_File]:
        if self._choice.slot == "supervisor":
            path = self._folder / SUPERVISOR_LOG
            return [(COORDINATOR, None, path)] if path.exists() else []
        files = sorted(_files(self._folder), key=lambda file: (file[0], *file[2]))
        return [
            (host, slot, path)
            for host, slot, _, path in files
            if self._choice.takes_file(host, slot)
        ]

    def _read(self, path: Path) -> list[tuple[str, float | None]] | None:
        """The next lines of a file and when they came; None when it has no whole one."""
        size = path.stat().st_size
        start = self._positions.get(path)
        skip_partial = False
        if start is None:
            start = self._start(path, size)
            skip_partial = start > 0 and not _ends_a_line(path, start)
            self._arrivals[path] = Arrivals(path, start)
        if start >= size:
            self._positions[path] = start
            return None
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(_CHUNK)
        end = data.rfind(b"\n") + 1
        if not end and len(data) < _CHUNK:
            self._positions[path] = start
            return None
        data = data[: end or _CHUNK]  # a line without an end is shown in pieces
        self._positions[path] = start + len(data)
        if skip_partial:
            start += (first := data.find(b"\n") + 1)
            data = data[first:]
        return list(zip(clean_lines(data), self._times(path, start, data), strict=True))

    def _times(self, path: Path, start: int, data: bytes) -> Iterator[float | None]:
        """When each of the lines in `data` was whole; they begin at `start`."""
        arrivals = self._arrivals[path]
        arrivals.catch_up()
        *whole, rest = data.split(b"\n")
        for line in whole:
            start += len(line) + 1
            yield arrivals.came_at(start)
        if rest:
            yield arrivals.came_at(start + len(rest))

    def _start(self, path: Path, size: int) -> int:
        """Where in a file the reading begins."""
        start = 0 if self._tail_bytes is None else max(0, size - self._tail_bytes)
        if self._choice.since is not None:
            start = max(start, _line_start(path, size_before(path, self._choice.since)))
        return start


def _files(folder: Path) -> Iterator[tuple[str, int | None, tuple[int, int], Path]]:
    """Host, slot, order within the host, and path of each log."""
    for path in folder.glob("*/log.*"):
        if (match := _LOG.fullmatch(path.name)) is not None:
            slot = None if match[1] == "agent" else int(match[1])
            yield path.parent.name, slot, (-1 if slot is None else slot, int(match[2])), path


def _ends_a_line(path: Path, position: int) -> bool:
    with path.open("rb") as file:
        file.seek(position - 1)
        return file.read(1) == b"\n"


def _line_start(path: Path, position: int) -> int:
    """Where the line begins that goes on at a position; the position itself where that is far."""
    with path.open("rb") as file:
        first = max(0, position - _CHUNK)
        file.seek(first)
        newline = file.read(position - first).rfind(b"\n")
    return first + newline + 1 if newline >= 0 or not first else position
