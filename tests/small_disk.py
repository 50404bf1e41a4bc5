"""A small disk of a test's own, in memory, that can be filled to the last byte. Needs root."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    folder: Path

    @property
    def free_bytes(self) -> int:
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self, but: int = 0) -> None:
        """Takes its room but for `but` bytes, however others write there meanwhile."""
        with self._filler.open("ab") as file:
            while (room := self.free_bytes - but) > 0:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)
                except OSError as error:
                    if error.errno != errno.ENOSPC:  # somebody else was quicker
                        raise

    def free(self) -> None:
        self._filler.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield SmallDisk(folder=folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
