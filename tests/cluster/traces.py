"""What a run has left on a lab machine besides what it may keep. Looks, and removes nothing."""

import fcntl
import os
from pathlib import Path

from tests.cluster.machine import Machine


def traces(host: Machine) -> list[str]:
    """Processes, listening ports, locks that are held and temporary files."""
    workdir = host.home / ".sollol"
    found = [f"process {process}" for process in host.processes()]
    found += [f"port {port}" for port in host.listening_ports()]
    locks = [*workdir.glob("leases/*/*"), *workdir.glob("runs/*/*/agent.lock")]
    found += [f"lock {path}" for path in locks if is_held(path)]
    found += [f"file {path}" for path in workdir.glob("runs/*/*/tmp")]
    return found


def is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
