"""What an agent holds for life, and the kernel drops when it dies: its run, by the flock on
agent.lock, the devices of its ranks, by files under the workdir, and its main port and its cores,
by a name. What a lock file says is for people: whether it is locked decides."""

import errno
import fcntl
import json
import os
import socket
from pathlib import Path

from remote.run import Rank, Run

FILE = "agent.lock"
FOLDER = "leases"  # of the workdir, then the host's name, because homes may be shared
HELD_FOR_AN_INSTANT_S = 1.0  # by who asks for a free port, and by an agent that ends
POLL_S = 0.05
_HOLDER_BYTES = 4096


class DeviceTakenError(Exception):
    """Another job has the device: a coordinator that knows nothing of ours gave it that."""


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


def hold_device(run_dir: Path, run: Run, rank: Rank) -> int | None:
    """Takes the GPU of a rank, or this host's CPU, for this job: an open descriptor to keep for
    life, or None when an agent of the same job has it, on a machine that is two of its hosts.
    Raises DeviceTakenError."""
    device = "cpu" if rank.gpu is None else f"gpu-{rank.gpu}"
    folder = run_dir.parents[2] / FOLDER / socket.gethostname()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / device, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        job, nonce = _holder(descriptor)
        os.close(descriptor)
        if (job, nonce) == (run.job, run.nonce):
            return None
        what = "the CPU" if rank.gpu is None else f"GPU {rank.gpu}"
        raise DeviceTakenError(
            f"{what} of {run.host} is in use by {job}, a job of another coordinator or of another "
            "SOLLOL_HOME; wait for it or choose other workers"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"v": 1, "job": run.job, "nonce": run.nonce}).encode(), 0)
    return descriptor


def _holder(descriptor: int) -> tuple[str, str]:
    try:
        said = json.loads(os.pread(descriptor, _HOLDER_BYTES, 0))
        return str(said["job"]), str(said["nonce"])
    except (ValueError, KeyError, TypeError):
        return "a job", ""


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
