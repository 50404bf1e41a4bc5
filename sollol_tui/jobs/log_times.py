"""When what a job's logs hold came to this machine, to a second: ranks write their lines without a
time, and hosts' clocks differ. Kept beside each copy; reads no log."""

import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import BinaryIO, Final

GRAIN_S: Final = 1.0
_BLOCK: Final = 1 << 16
_LOG, _TIMES = "log.", "times."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growth:
    """At that time so many bytes were there."""

    at: float
    size: int


class LogTimes:
    """Notes how the copies of one job's logs grow."""

    def __init__(self) -> None:
        self._written: dict[Path, _Growth] = {}
        self._last: dict[Path, _Growth] = {}

    def note(self, copy: Path) -> None:
        """Takes down that a copy has just grown. What is no log is none of its business."""
        if not copy.name.startswith(_LOG):
            return
        now = _Growth(at=time.time(), size=copy.stat().st_size)
        last, written = self._last.get(copy), self._written.get(copy)
        if last is not None and last != written and now.at - last.at >= GRAIN_S:
            self._write(copy, last)  # a silence begins at its real place
        if written is None or abs(now.at - written.at) >= GRAIN_S:
            self._write(copy, now)
        self._last[copy] = now

    def _write(self, copy: Path, growth: _Growth) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(_place(copy), flags, 0o600)
        try:
            os.write(descriptor, b"%.3f %d\n" % (growth.at, growth.size))
        finally:
            os.close(descriptor)
        self._written[copy] = growth


def size_before(copy: Path, moment: float) -> int:
    """How many bytes of a log's copy were there at that time; none where nobody took it down."""
    status = copy.stat()
    if status.st_mtime < moment:
        return status.st_size
    try:
        notes = _place(copy).read_bytes()
    except FileNotFoundError:
        return 0
    size = 0
    for growth in _growths(notes):
        if growth.at >= moment:
            break
        size = max(size, growth.size)
    return min(size, status.st_size)


class Arrivals:
    """When the bytes of one log's copy came, for who reads it from `begin` on towards its end."""

    def __init__(self, copy: Path, begin: int) -> None:
        self._copy, self._notes, self._begin = copy, _place(copy), begin
        self._read_to: int | None = None  # of the notes
        self._ahead: deque[_Growth] = deque()
        self._newest: float | None = None  # what is not noted yet came when the copy last grew

    def catch_up(self) -> None:
        """Reads what was taken down since the last time."""
        try:
            with self._notes.open("rb") as notes:
                if self._read_to is None:
                    self._read_to = self._near_begin(notes)
                notes.seek(self._read_to)
                fresh = notes.read()
        except FileNotFoundError:
            return
        self._read_to += fresh.rfind(b"\n") + 1
        self._ahead.extend(_growths(fresh))
        if self._ahead or self._newest is not None:
            self._newest = self._copy.stat().st_mtime

    def came_at(self, end: int) -> float | None:
        """When the bytes before `end` were all there, which never is less than the last time; None
        where nobody took that down."""
        while self._ahead and self._ahead[0].size < end:
            self._ahead.popleft()
        return self._ahead[0].at if self._ahead else self._newest

    def _near_begin(self, notes: BinaryIO) -> int:
        """Where in the notes stands what is needed: those of a long job are many."""
        place = notes.seek(0, os.SEEK_END)
        while place > 0:
            place = max(0, place - _BLOCK)
            notes.seek(place)
            block = notes.read(_BLOCK)
            first = 0 if not place else block.find(b"\n") + 1
            oldest = next(_growths(block[first:]), None)
            if oldest is not None and oldest.size <= self._begin:
                return place + first
        return 0


def _growths(notes: bytes) -> Iterator[_Growth]:
    for line in notes.split(b"\n")[:-1]:  # behind the last newline stands nothing, or half a line
        try:
            at, count = line.split()
            growth = _Growth(at=float(at), size=int(count))
        except ValueError:  # damage here makes an answer coarser, and nothing else
            continue
        if isfinite(growth.at):
            yield growth


def _place(copy: Path) -> Path:
    return copy.with_name(_TIMES + copy.name.removeprefix(_LOG))
