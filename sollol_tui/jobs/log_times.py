"""When what a job's logs hold came to this machine, to a second: ranks write their lines without a
time, and hosts' clocks differ. Kept beside each copy; reads no log."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GRAIN_S: Final = 1.0
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
        lines = _place(copy).read_bytes().split(b"\n")
    except FileNotFoundError:
        return 0
    size = 0
    for line in lines[:-1]:  # behind the last newline stands nothing, or half a line
        try:
            at, count = line.split()
            growth = _Growth(at=float(at), size=int(count))
        except ValueError:  # damage here makes the answer coarser, and nothing else
            continue
        if growth.at >= moment:
            break
        size = max(size, growth.size)
    return min(size, status.st_size)


def _place(copy: Path) -> Path:
    return copy.with_name(_TIMES + copy.name.removeprefix(_LOG))
