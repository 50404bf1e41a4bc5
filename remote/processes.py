"""Processes of this machine as the kernel knows them: identities, ancestry, signals. Signals an
identity (boot, pid, start time) checked through a pidfd; never a bare number, never a name."""

import ctypes
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
FAULT_SIGNAL = signal.SIGUSR1  # a rank that gets it writes where its threads stand into its log
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_COMMAND_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process for ever: pids come round again, start times (clock ticks since boot) do not."""

    boot_id: str
    pid: int
    start_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A line of the process table. `session` is the pid of the session's leader."""

    pid: int
    parent: int
    session: int
    start_time: int
    zombie: bool
    stopped: bool = False  # by SIGSTOP or a debugger

    @property
    def identity(self) -> Identity:
        return Identity(boot_id=boot_id(), pid=self.pid, start_time=self.start_time)


@cache
def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def read_process(pid: int) -> Process | None:
    """The process that has this pid now, or None when there is none."""
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name stands in parentheses and may itself hold parentheses and blanks.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        start_time=int(fields[19]),
        zombie=fields[0] in (b"Z", b"X"),
        stopped=fields[0] in (b"T", b"t"),
    )


def identify(pid: int) -> Identity | None:
    process = read_process(pid)
    return process.identity if process else None


def is_alive(identity: Identity) -> bool:
    """Whether exactly this process still runs; a zombie does not."""
    process = read_process(identity.pid)
    return process is not None and not process.zombie and process.identity == identity


def process_table() -> dict[int, Process]:
    """Everything that runs now, by pid; zombies are left out."""
    pids = (int(entry.name) for entry in os.scandir(PROC) if entry.name.isdecimal())
    processes = (read_process(pid) for pid in pids)
    return {p.pid: p for p in processes if p is not None and not p.zombie}


def descendants(roots: Iterable[int], table: Mapping[int, Process]) -> set[int]:
    """The pids below `roots`, without the roots themselves."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    below: set[int] = set()
    to_visit = list(roots)
    while to_visit:
        fresh = [pid for pid in children.get(to_visit.pop(), []) if pid not in below]
        below.update(fresh)
        to_visit.extend(fresh)
    return below


def ancestors(pid: int, table: Mapping[int, Process]) -> set[int]:
    above: set[int] = set()
    process = table.get(pid)
    while process and process.parent not in above:
        above.add(process.parent)
        process = table.get(process.parent)
    return above


def environment_holds(pid: int, variable: str, value: str) -> bool:
    """Whether a process of this user was started with exactly this variable."""
    folder = PROC / str(pid)
    try:
        if folder.stat().st_uid != os.geteuid():
            return False
        entries = (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(f"{variable}={value}") in entries


def command(pid: int) -> str:
    """The process's command line, shortened; empty when it is gone."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace")[:_COMMAND_LENGTH]


def resident_bytes(pids: Iterable[int]) -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for pid in pids:
        try:
            total += int((PROC / str(pid) / "statm").read_bytes().split()[1]) * page
        except (OSError, IndexError):
            continue  # it left between the listing and the reading
    return total


def own_bytes(pids: Iterable[int]) -> int:
    """What these processes hold that the kernel could not take back: memory of their own, their
    parts of shared memory, and what of it lies in swap; files that are mapped are left out."""
    counted = ("Pss_Anon", "Pss_Shmem", "SwapPss")
    total = 0
    for pid in pids:
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it left, or is leaving
        sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
        if "Pss_Anon" not in sizes:  # a kernel before 5.4 tells only the sum
            sizes["Pss_Anon"] = sizes.get("Pss", "0 kB")
        total += sum(int(sizes.get(name, "0 kB").split()[0]) for name in counted) * 1024
    return total


def send_signal(identity: Identity, number: signal.Signals) -> bool:
    """Signals exactly this process; False when it is no longer there or not ours to signal."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    except OSError:  # a kernel before 5.3 has no pidfd: check, then signal at once
        return is_alive(identity) and _deliver(lambda: os.kill(identity.pid, number))
    try:
        # The descriptor pins whoever has the pid now, so what the check says stays true.
        if identify(identity.pid) != identity:
            return False
        return _deliver(lambda: signal.pidfd_send_signal(descriptor, number))
    finally:
        os.close(descriptor)


def _deliver(send: Callable[[], None]) -> bool:
    try:
        send()
    except (ProcessLookupError, PermissionError):
        return False
    return True


def become_subreaper() -> None:
    """From now on an orphan below this process becomes its child, whatever it did to get away."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Asks the kernel for SIGKILL when the thread that started this process ends; leaves at once
    when that has already happened. Cleared by fork, kept by exec."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, argument: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
