"""Where this process stands in the kernel's control groups, of version 1 or 2, and what these files
say. Makes no group and moves nobody.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A group as a folder: `version` of the interface its files follow; `mount` is the uppermost
    folder of the hierarchy that can be seen."""

    folder: Path
    mount: Path
    version: int

    def upwards(self) -> Iterator[Path]:
        """This group's folder and those above it, as far as they can be seen."""
        folder = self.folder
        while True:
            yield folder
            if folder == self.mount:
                return
            folder = folder.parent


def own_place(controller: str, proc: Path = _PROC) -> Place | None:
    """The group in which `controller` (memory, cpu) counts this process, where it can be seen."""
    for line in _text(proc / "self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return _mounted(proc, path, "cgroup", controller)
        if number == "0" and not controllers:
            place = _mounted(proc, path, "cgroup2", "")
            if place is not None and has(place.folder / "cgroup.controllers", controller):
                return place
    return None


def cpu_quota(proc: Path = _PROC) -> float | None:
    """How many cores' time the groups above grant to this process; None for all there is."""
    place = own_place("cpu", proc)
    if place is None:
        return None
    quotas = []
    for folder in place.upwards():
        if place.version == 2:
            quota, _, period = _text(folder / "cpu.max").partition(" ")
        else:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):  # else "max", or -1
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_left(proc: Path = _PROC) -> int | None:
    """How many bytes the groups above still grant to this process; None where they cannot be seen.
    What the kernel would give back first, pages of files, counts as left."""
    place = own_place("memory", proc)
    if place is None:
        return None
    limit, usage, cache = (
        ("memory.max", "memory.current", "inactive_file")
        if place.version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    left = [
        most - used + count(folder / "memory.stat", cache)
        for folder in place.upwards()
        if (most := number(folder / limit)) is not None
        and (used := number(folder / usage)) is not None
    ]
    return min(left, default=None)


def can_divide(folder: Path) -> bool:
    """Whether this account may make groups here and move its own processes into them."""
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def has(file: Path, word: str) -> bool:
    return word in _text(file).split()


def number(file: Path) -> int | None:
    """What a file says when that is a number ("max" is none)."""
    text = _text(file)
    return int(text) if text.isdecimal() else None


def count(file: Path, name: str) -> int:
    """The line `name number` of a file of counters; 0 where the kernel does not count it."""
    found = (line.split() for line in _text(file).splitlines() if line.startswith(f"{name} "))
    return next((int(words[1]) for words in found), 0)


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _mounted(proc: Path, path: str, kind: str, option: str) -> Place | None:
    """Where a path of a hierarchy lies in the file system (man 5 proc_pid_mountinfo)."""
    for line in _text(proc / "self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, (found_kind, _, options) = before.split(), after.split(" ", 2)
        if found_kind != kind or option not in ("", *options.split(",")):
            continue
        mount = Path(fields[4])
        with contextlib.suppress(ValueError):  # another part of the hierarchy is mounted there
            below = Path(path).relative_to(fields[3])
            if ".." not in below.parts and (mount / below).is_dir():
                return Place(
                    folder=mount / below, mount=mount, version=2 if kind == "cgroup2" else 1
                )
    return None
