"""Whether anybody follows a run: who streams it holds a lock as long as it lives, and a program
that works for a follower alone ends without one. A training needs nobody."""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

FILE = "followed"  # in the run directory
PATIENCE_S = 60.0  # a connection that was lost is back before
_LOOK_S = 1.0


def follow(run_dir: Path) -> int:
    """Follows the run for as long as this process lives; the kernel tells when it does not."""
    descriptor = _open(run_dir)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def is_followed(run_dir: Path) -> bool:
    """Asks by taking the lock for an instant; whoever begins to follow waits that long."""
    descriptor = _open(run_dir)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def call_when_left(
    run_dir: Path, leave: Callable[[], None], patience_s: float = PATIENCE_S
) -> threading.Thread:
    """Calls `leave`, from a thread, once nobody has followed the run for so long."""

    def watch() -> None:
        seen_at = time.monotonic()
        while time.monotonic() - seen_at < patience_s:
            time.sleep(min(_LOOK_S, patience_s / 10))
            if is_followed(run_dir):
                seen_at = time.monotonic()
        leave()

    thread = threading.Thread(target=watch, daemon=True, name="whether anybody follows")
    thread.start()
    return thread


def _open(run_dir: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(run_dir / FILE, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # What a run said before its disk became read-only can still be read.
        return os.open(run_dir, os.O_RDONLY | flags)
