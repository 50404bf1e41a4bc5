"""How much memory a run may have on this host: held by the kernel where the agent can be put into
a control group with a limit, looked at every second where it cannot. Ends nobody.

A group counts what its processes use, page cache included, and the kernel gives that back first.
The watch counts what nobody could take back: memory of their own, shared memory and swap.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from remote import cgroup, processes

GIB = 1024**3
FILE = "cgroup"  # in the run directory: where the group of its agent lies
PREFIX = "sollol-"
SCOPE_TIMEOUT_S = 5.0
REMOVE_TIMEOUT_S = 2.0
_POLL_S = 0.02
_SYSTEM = Path("/run/systemd/system")  # there when systemd is what started this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A control group with a memory controller, of either version of the kernel's interface."""

    folder: Path
    version: int

    def limit(self, limit_bytes: int) -> None:
        """Limits memory, and leaves no swap to get around it."""
        if self.version == 2:
            (self.folder / "memory.max").write_text(str(limit_bytes))
            with contextlib.suppress(OSError):  # a kernel without swap accounting
                (self.folder / "memory.swap.max").write_text("0")
            return
        (self.folder / "memory.limit_in_bytes").write_text(str(limit_bytes))
        with contextlib.suppress(OSError):
            (self.folder / "memory.memsw.limit_in_bytes").write_text(str(limit_bytes))

    def limit_bytes(self) -> int | None:
        """Its own limit; None when it has none."""
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        number = cgroup.number(self.folder / name)
        return None if number is None or number >= 2**60 else number  # v1 says 2^63 for none

    def enter(self, pid: int) -> None:
        (self.folder / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How many of its processes the kernel has ended for lack of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return cgroup.count(self.folder / name, "oom_kill")

    def most_bytes(self) -> int | None:
        """The most that it has used."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        return cgroup.number(self.folder / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """What the kernel had counted at some moment: `group` of ours, `host` of the whole machine."""

    group: int
    host: int


class Memory:
    """The memory of one run on this host. Made by the agent before it starts anything, because
    what it starts inherits its group."""

    def __init__(self, run_dir: Path, host: str, limit_bytes: int | None) -> None:
        self._run_dir = run_dir
        self._host = host
        self._limit_bytes = limit_bytes
        self._origin: Group | None = None
        self._made: Group | None = None
        self._is_held = False
        self.sentence = ""
        if limit_bytes is not None:
            how = self._hold(limit_bytes)
            self.sentence = f"memory is limited to {sized(limit_bytes)}, {how}"
        self._group = own_group()

    @property
    def is_watched(self) -> bool:
        """Whether there is a limit that the kernel does not keep."""
        return self._limit_bytes is not None and not self._is_held

    def excess_bytes(self, pids: Collection[int]) -> int | None:
        """What the run's processes use when that is above the limit."""
        if self._limit_bytes is None:
            return None
        if processes.resident_bytes(pids) <= self._limit_bytes:
            return None  # shared pages count more than once in it, so it is never too low
        used = processes.own_bytes(pids)
        return used if used > self._limit_bytes else None

    def kills(self) -> Kills:
        group = self._group.kills() if self._group else 0
        return Kills(group=group, host=cgroup.count(Path("/proc/vmstat"), "oom_kill"))

    def blame(self, before: Kills, *, was_killed: bool) -> str | None:
        """Whether lack of memory explains a rank that ended since `before`: one sentence, or None.
        Of what the kernel ended elsewhere on the machine only a rank that `was_killed` is one."""
        now = self.kills()
        if self._group is not None and now.group > before.group:
            limit = self._group.limit_bytes() if self._is_held else None
            if limit is not None:
                used = self._group.most_bytes()
                return self.told(used if used is not None else limit)
            return f"out of memory on {self._host}: a limit set outside of sollol was reached"
        if was_killed and now.host > before.host:
            return (
                f"out of memory on {self._host}, as it seems: the kernel ended a process there for "
                "lack of memory meanwhile"
            )
        return None

    def told(self, used_bytes: int) -> str:
        """What to say when `used_bytes` are too much."""
        assert self._limit_bytes is not None
        return (
            f"out of memory on {self._host}: limit {sized(self._limit_bytes)}, used "
            f"{sized(used_bytes)}; raise ram_gb, or lower max_length or batch_size"
        )

    def release(self) -> None:
        """Leaves the group that was made for the run, and removes it. To be called when the agent
        is the last that lives in it."""
        if self._made is None or self._origin is None:
            return
        with contextlib.suppress(OSError):
            self._origin.enter(os.getpid())
        remove_group(self._run_dir)

    def _hold(self, limit_bytes: int) -> str:
        """Puts this process under a limit of the kernel; says how, or why not."""
        reasons = []
        for way in (self._take_scope, self._make_group):
            reason = way(limit_bytes)
            if reason is None:
                self._is_held = True
                what = "a control group" if self._made else "a scope of systemd"
                return f"held by the kernel ({what})"
            reasons.append(reason)
        return f"watched every second ({'; '.join(reasons)})"

    def _take_scope(self, limit_bytes: int) -> str | None:
        """Asks systemd for a scope around this process; says why there is none."""
        busctl = shutil.which("busctl")
        manager, environment = _manager()
        if busctl is None or manager is None:
            return "no systemd that this account may use"
        if manager == "--user" and (problem := _linger()):
            return problem
        name = f"{PREFIX}{self._run_dir.parent.name}-{self._host}-{os.getpid()}.scope"
        properties = {
            "Description": ("s", f"sollol, {self._run_dir.parent.name}"),
            "PIDs": ("au", f"1 {os.getpid()}"),
            "MemoryMax": ("t", str(limit_bytes)),
            "MemorySwapMax": ("t", "0"),
            "Delegate": ("b", "true"),  # so that it leaves the agent alone when a rank is ended
            "CollectMode": ("s", "inactive-or-failed"),
        }
        words = [
            *("call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
            *("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"),
            *(name, "fail", str(len(properties))),
        ]
        for key, (kind, value) in properties.items():
            words += [key, kind, *(value.split() if kind == "au" else [value])]
        if problem := _ask([busctl, manager, *words, "0"], environment):
            return problem
        deadline = time.monotonic() + SCOPE_TIMEOUT_S
        while True:  # the answer comes before it is done
            group = own_group()
            if group is not None and group.folder.name == name and group.limit_bytes() is not None:
                return None
            if time.monotonic() > deadline:
                return "systemd made a scope without a memory limit"
            time.sleep(_POLL_S)

    def _make_group(self, limit_bytes: int) -> str | None:
        """Makes a group below one that is this account's; says why there is none."""
        self._origin = own_group()
        parent = divisible_group()
        if parent is None or self._origin is None:
            return "no control group that this account may divide"
        name = f"{PREFIX}{self._run_dir.parent.name}-{self._host}"
        made = Group(folder=parent.folder / name, version=parent.version)
        try:
            (self._run_dir / FILE).write_text(f"{made.folder}\n")
            made.folder.mkdir(exist_ok=True)
            made.limit(limit_bytes)
            made.enter(os.getpid())
        except OSError as error:
            remove_group(self._run_dir)
            return f"its control group refuses ({error.strerror})"
        self._made = made
        return None


def remove_group(run_dir: Path) -> None:
    """Removes the group that an agent of this run made, once it is empty."""
    note = run_dir / FILE
    try:
        folder = Path(note.read_text().strip())
    except FileNotFoundError:
        return
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while folder.name.startswith(PREFIX) and folder.is_dir():
        try:
            folder.rmdir()  # the kernel refuses while anybody is in it
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(_POLL_S)
    note.unlink(missing_ok=True)


def own_group(proc: Path = Path("/proc")) -> Group | None:
    """The control group that counts this process's memory, where it can be looked at."""
    place = cgroup.own_place("memory", proc)
    return Group(folder=place.folder, version=place.version) if place else None


def sized(count: int) -> str:
    """As people say it: 4 GiB, 512 MiB."""
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count / GIB * 1024:.0f} MiB"


def divisible_group(proc: Path = Path("/proc")) -> Group | None:
    """The nearest group above or at our own in which this account may make others that count
    memory. A process may be moved only within a part that is all the account's."""
    place = cgroup.own_place("memory", proc)
    if place is None:
        return None
    if place.version == 1:
        return own_group(proc) if cgroup.can_divide(place.folder) else None
    for folder in place.upwards():
        counts = cgroup.has(folder / "cgroup.subtree_control", "memory")
        if counts and cgroup.can_divide(folder):
            return Group(folder=folder, version=2)
    return None


def _manager() -> tuple[str | None, Mapping[str, str]]:
    """Which systemd may be asked: the machine's by root, else the account's own."""
    if os.geteuid() == 0:
        return ("--system" if _SYSTEM.is_dir() else None), os.environ
    runtime = Path(f"/run/user/{os.geteuid()}")
    found = "--user" if (runtime / "bus").exists() else None
    return found, os.environ | {"XDG_RUNTIME_DIR": str(runtime)}


def _linger() -> str | None:
    """Makes the account's systemd live on after its last login; says why it will not."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    if (Path("/var/lib/systemd/linger") / user).exists():
        return None
    problem = _ask(["loginctl", "--no-ask-password", "enable-linger"], os.environ)
    return f"lingering is off and cannot be switched on: {problem}" if problem else None


def _ask(argv: list[str], environment: Mapping[str, str]) -> str | None:
    """Runs a tool of systemd's; what it complains of, or None."""
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SCOPE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{Path(argv[0]).name}: {type(error).__name__}"
    lines = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (lines[-1] if lines else f"exit {done.returncode}")
