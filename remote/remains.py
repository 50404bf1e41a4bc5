"""What of one run lives on this host, and its removal. A process belongs to the run when its
identity was recorded, when it descends from or shares the session of one that was and lives, or
when it was started with the run's cookie in its environment; nothing else is ever touched."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remote import processes
from remote.disk import is_full
from remote.processes import Identity

FILE = "pids"
COOKIE = "SOLLOL_RUN"
TEMPORARY = "tmp"  # TMPDIR of the ranks
TERM_GRACE_S = 5.0
KILL_DEADLINE_S = 10.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Remnant:
    """A living process of the run. `role`: agent, rank.<slot>, descendant, session or cookie."""

    identity: Identity
    role: str


def record(run_dir: Path, identity: Identity, role: str, **more: Any) -> bool:
    """Writes down that this process is the run's, before anything depends on it. False where the
    disk is full: then its session, its parent or its cookie must tell."""
    line = json.dumps({"v": 1, **asdict(identity), "role": role, **more}).encode() + b"\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(run_dir / FILE, flags, 0o600)
    before = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, before)  # the next line must not be read as a part of it
            return False
        os.fsync(descriptor)
        return True
    except OSError as error:
        if not is_full(error):
            raise
        return False
    finally:
        os.close(descriptor)


def recorded(run_dir: Path) -> list[tuple[Identity, dict[str, Any]]]:
    """Every identity ever recorded, oldest first, with its line; what is no such line is skipped
    (the last one may have been cut by a power loss)."""
    try:
        lines = (run_dir / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            data = json.loads(line)
            identity = Identity(
                boot_id=str(data["boot_id"]),
                pid=int(data["pid"]),
                start_time=int(data["start_time"]),
            )
        except (ValueError, KeyError, TypeError):
            continue
        found.append((identity, data))
    return found


def stopped_agent(run_dir: Path) -> Identity | None:
    """The run's agent where a signal has stopped it: it lives, and looks after nothing."""
    for identity, line in reversed(recorded(run_dir)):
        if line.get("role") == "agent":
            process = processes.read_process(identity.pid)
            is_it = process is not None and process.identity == identity and process.stopped
            return identity if is_it else None
    return None


def living(run_dir: Path) -> list[Remnant]:
    """The run's processes that live now; never the caller or those it descends from."""
    table = processes.process_table()
    roles = {
        identity.pid: str(line.get("role"))
        for identity, line in recorded(run_dir)
        if identity.pid in table and table[identity.pid].identity == identity
    }
    for process in table.values():
        # Holds for living leaders only: a dead one's number may lead a stranger's session.
        if process.session in roles and process.pid not in roles:
            roles[process.pid] = "session"
        elif process.pid not in roles and processes.environment_holds(
            process.pid, COOKIE, str(run_dir)
        ):
            roles[process.pid] = "cookie"
    for pid in processes.descendants(list(roles), table):
        roles.setdefault(pid, "descendant")
    spared = processes.ancestors(os.getpid(), table) | {os.getpid()}
    return [
        Remnant(identity=table[pid].identity, role=role)
        for pid, role in sorted(roles.items())
        if pid not in spared
    ]


def signal_all(remnants: Iterable[Remnant], number: signal.Signals) -> None:
    for remnant in remnants:
        processes.send_signal(remnant.identity, number)


def remove(
    find: Callable[[], list[Remnant]], *, term_grace_s: float, reap: Callable[[], None]
) -> list[Remnant]:
    """Ends what `find` finds: SIGTERM, up to `term_grace_s` to leave, SIGKILL until nothing is
    found. `find` is asked again each time, because processes have children while they die. `reap`
    collects the caller's dead children. Returns what still lives after KILL_DEADLINE_S: nothing
    unless the kernel itself holds a process."""
    remnants = find()
    if term_grace_s > 0:
        signal_all(remnants, signal.SIGTERM)
        deadline = time.monotonic() + term_grace_s
        while remnants and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            reap()
            remnants = find()
    deadline = time.monotonic() + KILL_DEADLINE_S
    while remnants and time.monotonic() < deadline:
        signal_all(remnants, signal.SIGKILL)
        time.sleep(_POLL_S)
        reap()
        remnants = find()
    return remnants
