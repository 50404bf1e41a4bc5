"""The processes of one PID namespace, as the machine below it sees them in /proc.

Refuses: to signal any of them.
"""

import shlex
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    """A process of a host as the machine below sees it."""

    outer_pid: int
    pid: int
    parent: int  # 0 when it lies outside of the host
    program: str  # empty when it has given up its memory and is about to be gone
    command: str

    @property
    def listens_for_ssh(self) -> bool:
        return self.program == "sshd" and self.parent == 1


def of_child_namespace(maker: int) -> list[Seen]:
    """The living in the namespace that process `maker` opened for its children, init first."""
    namespace = _link(f"/proc/{maker}/ns/pid_for_children")
    inner_pids: dict[int, int] = {}
    statuses: dict[int, dict[str, str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if namespace is None or _link(f"{entry}/ns/pid") != namespace:
            continue
        try:
            lines = (entry / "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        if not status["State"].strip().startswith(("Z", "X")):
            statuses[int(entry.name)] = status
            inner_pids[int(entry.name)] = int(status["NSpid"].split()[-1])
    return [
        Seen(
            outer_pid=outer_pid,
            pid=inner_pids[outer_pid],
            parent=inner_pids.get(int(status["PPid"]), 0),
            program=Path(_link(f"/proc/{outer_pid}/exe") or "").name,
            command=_command_line(outer_pid) or f"[{status['Name'].strip()}]",
        )
        for outer_pid, status in sorted(statuses.items(), key=lambda item: inner_pids[item[0]])
    ]


def _link(path: str) -> str | None:
    try:
        return str(Path(path).readlink())
    except OSError:  # it is gone, or the machine's own and none of ours
        return None


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return shlex.join(word.decode(errors="replace") for word in words if word)
