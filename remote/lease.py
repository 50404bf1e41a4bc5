"""What an agent holds for life, and the kernel drops when it dies: its run, by the flock on
agent.lock, and its main port and its cores, by a name. Never trusts what a lock file says, only
whether it is locked."""

import errno
import fcntl
import os
import socket
from pathlib import Path

FILE = "agent.lock"


def take_lock(run_dir: Path) -> int | None:
    """Takes the run for this process and its forks: an open descriptor to keep for life, or None
    when another agent holds it."""
    descriptor = os.open(
        run_dir / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(run_dir: Path) -> bool:
    """Whether an agent lives. Asks by a shared lock held for an instant, so `take_lock` may fail
    once because somebody asked: whoever wants the lock tries again."""
    try:
        descriptor = os.open(run_dir / FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def hold_port(port: int) -> int | None:
    """Reserves a main port long before a store listens there: an open descriptor to keep for life,
    or None when another agent has it. The reservation has the reach of the port itself: all users
    and workdirs that share this network."""
    return _hold(f"main-port/{port}")


def hold_core(processor: int) -> int | None:
    """Reserves the core that begins with this processor: an open descriptor to keep for life, or
    None when another agent has it."""
    return _hold(f"core/{processor}")


def _hold(what: str) -> int | None:
    """Takes a name of an abstract socket, which the kernel gives to one process only."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0sollol/{what}")
    except OSError as error:
        name.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return name.detach()
