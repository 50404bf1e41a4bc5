"""The disk of a run: whether it has room to go on, a little that is kept back to say so when it has
none, and how its failures are told. Deletes nothing of the run."""

import contextlib
import errno
import io
import os
from pathlib import Path
from typing import Any

RESERVE = "reserve"  # a file in the run directory
RESERVE_BYTES = 256 * 1024
LEAST_BYTES = 64 * 1024**2
LEAST_PART = 0.05  # of a disk so small that LEAST_BYTES were much of it
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EROFS, errno.EIO)


def is_full(error: OSError) -> bool:
    """Whether a disk, or the account's part of it, has no room."""
    return error.errno in _FULL


def told(error: OSError) -> str:
    """What an operating system's refusal is about, in words, and what to do next."""
    words = [str(error.filename)] if error.filename is not None else []
    words.append(error.strerror or str(error))
    if error.errno in _BROKEN:
        words[-1] += "; `dmesg` there says why, and `mount` how it is mounted"
    return ": ".join(words)


class Room:
    """The disk of one run directory, as its agent sees it."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._reserve = run_dir / RESERVE
        with contextlib.suppress(OSError):  # it is as full as can be: nothing to keep back
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)

    def shortage(self) -> tuple[int, int] | None:
        """The bytes that are free and that are needed, when the former are fewer. Needed is what
        one more checkpoint takes beside the ones that are there, and some for logs."""
        disk = os.statvfs(self._run_dir)
        free = disk.f_bavail * disk.f_frsize
        least = min(LEAST_BYTES, int(LEAST_PART * disk.f_blocks * disk.f_frsize))
        needed = least + self._checkpoint_bytes()
        return (free, needed) if free < needed else None

    def give(self) -> None:
        """Gives back what was kept, for a last word."""
        self._reserve.unlink(missing_ok=True)

    def _checkpoint_bytes(self) -> int:
        """What the newest checkpoint takes."""
        newest, size = -1, 0
        for folder in (self._run_dir / "checkpoints").glob("checkpoint-*"):
            number = folder.name.removeprefix("checkpoint-")
            if number.isdecimal() and int(number) > newest:
                with contextlib.suppress(OSError):  # it may be removed meanwhile
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    newest = int(number)
        return size


class PatientLog(io.FileIO):
    """A log that loses lines when the disk is full, instead of ending whoever writes."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not is_full(error):
                raise
            return len(memoryview(data).cast("B"))


def patient_stream(descriptor: int) -> io.TextIOWrapper:
    """For sys.stdout and sys.stderr: what is printed reaches the file line by line."""
    raw = PatientLog(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
