"""A small disk of a test's own that becomes read-only, fails, or loses its power with all that was
not flushed. Needs root and a loop device; refuses nothing else."""

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_WITHOUT_FLUSH = 2  # FS_SHUTDOWN_FLAGS_NOLOGFLUSH
_OPTIONS = "loop,errors=remount-ro"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopDisk:
    image: Path
    folder: Path

    def mount(self) -> bool:
        """Whether this machine let us."""
        argv = ["mount", "-o", _OPTIONS, str(self.image), str(self.folder)]
        return subprocess.run(argv, check=False, capture_output=True).returncode == 0

    def becomes_read_only(self) -> None:
        """The kernel has found an error in the file system."""
        lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        (device,) = (words[0] for words in lines if words[1] == str(self.folder))
        trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
        trigger.write_text("a test of sollol's")

    def fails(self) -> None:
        """Nothing can be read or written any more; what was not flushed is lost."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def is_there_again(self) -> None:
        """The machine has started again after its power was lost."""
        subprocess.run(["umount", str(self.folder)], check=True)
        assert self.mount()


@contextlib.contextmanager
def loop_disk(folder: Path, size_bytes: int) -> Iterator[LoopDisk]:
    """Skips the test where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("mounts a disk of its own")
    disk = LoopDisk(image=folder / "image", folder=folder / "disk")
    disk.image.touch()
    os.truncate(disk.image, size_bytes)
    disk.folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(disk.image)], check=True)
    if not disk.mount():
        pytest.skip("this machine has no loop device for a disk of its own")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)
