"""Reads a job's logs from the coordinator's copies: merged over its ranks, new lines only."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from sollol_tui.jobs.home import SUPERVISOR_LOG
from sollol_tui.jobs.log_times import size_before
from sollol_tui.model.errors import InputError, NotFoundError
from sollol_tui.model.names import COORDINATOR, not_found
from sollol_tui.model.snapshot import JobView, Keyed
from sollol_tui.model.text import clean_lines

_LOG: Final = re.compile(r"log\.(agent|\d{1,4})\.(\d{1,4})")
_CHUNK: Final = 64 * 1024
Slot = int | Literal["agent", "supervisor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine(Keyed):
    """One clean line. `slot` is None for the agent, and for the coordinator's supervisor."""

    host: str
    slot: int | None
    text: str


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

    def read(self, max_lines: int = 2000) -> list[LogLine]:
        """Lines that came since the last call, about `max_lines` at most, files in order of host
        and slot. A last line without a newline waits."""
        lines: list[LogLine] = []
        for host, slot, path in self._chosen():
            while len(lines) < max_lines:
                fresh = self._read(path)
                if fresh is None:
                    break
                found = (LogLine(host=host, slot=slot, text=text) for text in fresh)
                lines += [line for line in found if self._choice.takes(line)]
        return lines

    def _chosen(self) -> list[tuple[str, int | None, Path]]:
        if self._choice.slot == "supervisor":
            path = self._folder / SUPERVISOR_LOG
            return [(COORDINATOR, None, path)] if path.exists() else []
        files = sorted(_files(self._folder), key=lambda file: (file[0], *file[2]))
        return [
            (host, slot, path)
            for host, slot, _, path in files
            if self._choice.takes_file(host, slot)
        ]

    def _read(self, path: Path) -> list[str] | None:
        """The next lines of a file; None when it has no whole one."""
        size = path.stat().st_size
        start = self._positions.get(path)
        skip_partial = False
        if start is None:
            start = self._start(path, size)
            skip_partial = start > 0 and not _ends_a_line(path, start)
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
            data = data[data.find(b"\n") + 1 :]
        return clean_lines(data)

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
