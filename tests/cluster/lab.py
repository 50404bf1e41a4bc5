"""A cluster on one machine: hosts in network namespaces behind a switch, with real OpenSSH servers.

Refuses: to touch what another lab made, and to leave anything behind. Every system-wide name
carries the lab's number, which is held by a lock for as long as the process lives; a lab whose lock
is free is a dead one, and the next lab sweeps it.

    with Lab.up(hosts=2) as lab:
        lab.hosts[0].run(["uptime"])
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.cable import BRIDGE, NAMESPACES, LabError, tool
from tests.cluster.cgroup import ControlGroup, controllers_missing, groups_of
from tests.cluster.machine import SEARCH_PATH, Machine, make_key

LOCKS = Path("/run")
# Not /tmp, which hosts hide behind their own, nor a tmpfs: whole environments are built here.
FOLDERS = Path("/var/lib")
TOOLS = ("ip", "tc", "iptables", "unshare", "nsenter", "sshd", "ssh-keygen")
NUMBERS = range(1, 255)
SWEEP_TIMEOUT_S = 20.0


def missing_pieces() -> str | None:
    """Says why no lab can be made here, or None."""
    if os.geteuid() != 0:
        return "not root"
    absent = [name for name in TOOLS if shutil.which(name, path=SEARCH_PATH) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt install openssh-server iproute2 iptables"
    try:
        tool("unshare", "--net", "--mount", "--uts", "--pid", "--ipc", "--fork", "true")
    except LabError as error:
        return f"no namespaces: {error}"
    return controllers_missing()


@dataclass(kw_only=True)
class Lab:
    number: int
    folder: Path
    hosts: list[Machine]
    _lock: int

    @classmethod
    def up(
        cls,
        hosts: int = 2,
        cpu_percent: int = 100,
        rate: str = "1gbit",
        shared: Mapping[Path, str] | None = None,
    ) -> Self:
        """Boots `hosts` machines w1..wN and returns when each one's sshd answers.

        `shared` shows folders of this machine to every host: path here -> path there, which lies
        under ~, /tmp or /mnt.
        """
        sweep()
        number, lock = _claim_number()
        lab = cls(number=number, folder=_folder(number), hosts=[], _lock=lock)
        try:
            lab.folder.mkdir(mode=0o700)
            make_key(lab.identity)
            lab._lay_switch()
            for position in range(1, hosts + 1):
                name = f"w{position}"
                lab.hosts.append(
                    Machine(
                        name=name,
                        address=f"10.77.{number}.{10 + position}",
                        gateway=f"10.77.{number}.1",
                        prefix=_prefix(number),
                        folder=lab.folder / name,
                        authorized_key=lab.identity.with_suffix(".pub").read_text(),
                        cpu_percent=cpu_percent,
                        rate=rate,
                        shared=shared or {},
                    )
                )
            for host in lab.hosts:
                host.start()
            for host in lab.hosts:
                host.wait_until_up()
        except BaseException:
            lab.down()
            raise
        return lab

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()

    @property
    def identity(self) -> Path:
        """The private key that every host lets in as root."""
        return self.folder / "identity"

    def known_hosts_text(self) -> str:
        return "".join(f"{host.known_hosts_line}\n" for host in self.hosts)

    def inventory_text(self, **extra: object) -> str:
        """An inventory.yaml of all hosts; `extra` adds top-level keys with JSON values."""
        hosts = {
            host.name: {
                "address": host.address,
                "user": "root",
                "identity_file": str(self.identity),
            }
            for host in self.hosts
        }
        whole = {"version": 1, "hosts": hosts, **extra}
        # JSON values are YAML; one key a line keeps errors and diffs readable.
        lines = []
        for key, value in whole.items():
            if isinstance(value, dict) and value:
                lines.append(f"{key}:")
                lines += [f"  {name}: {json.dumps(inner)}" for name, inner in value.items()]
            else:
                lines.append(f"{key}: {json.dumps(value)}")
        return "\n".join(lines) + "\n"

    def reset(self) -> None:
        """Hosts on, cables in, nothing running: as after `up`, but for the files in the homes."""
        self.heal_coordinator()
        for host in self.hosts:
            host.reset()

    def cut_coordinator(self) -> None:
        """Unplugs this machine at the switch; the hosts still reach each other."""
        tool("ip", "-n", f"{_prefix(self.number)}-switch", "link", "set", "uplink", "down")

    def heal_coordinator(self) -> None:
        tool("ip", "-n", f"{_prefix(self.number)}-switch", "link", "set", "uplink", "up")

    def wipe_workdirs(self) -> None:
        for host in self.hosts:
            host.wipe_workdir()

    def down(self) -> None:
        """Removes everything this lab made."""
        _remove(self.number)
        for host in self.hosts:
            host.crash()
        self.hosts.clear()
        _release(self.number, self._lock)

    def _lay_switch(self) -> None:
        """A bridge in a namespace of its own, out of reach of the machine's firewall rules."""
        switch, uplink = f"{_prefix(self.number)}-switch", _prefix(self.number)
        tool("ip", "netns", "add", switch)
        tool("ip", "-n", switch, "link", "add", BRIDGE, "type", "bridge")
        tool("ip", "-n", switch, "link", "set", BRIDGE, "up")
        tool("ip", "link", "add", uplink, "type", "veth", "peer", "name", "uplink", "netns", switch)
        tool("ip", "-n", switch, "link", "set", "uplink", "master", BRIDGE, "up")
        tool("ip", "addr", "add", f"10.77.{self.number}.1/24", "dev", uplink)
        tool("ip", "link", "set", uplink, "up")


def sweep() -> list[int]:
    """Removes the labs of processes that died without doing so; says which."""
    swept = []
    for number in NUMBERS:
        if _lock_file(number).exists() and (lock := _try_lock(number)) is not None:
            _remove(number)
            _release(number, lock)
            swept.append(number)
    return swept


def leftovers(number: int) -> list[str]:
    """What the machine still holds of lab `number`."""
    prefix = _prefix(number)
    found = [str(path) for path in (_folder(number), _lock_file(number)) if path.exists()]
    found += [f"namespace {name}" for name in _namespaces(prefix)]
    found += [f"control group {name}" for name in groups_of(f"{prefix}-")]
    if Path(f"/sys/class/net/{prefix}").exists():
        found.append(f"interface {prefix}")
    return found


def _prefix(number: int) -> str:
    return f"sollol{number}"


def _folder(number: int) -> Path:
    return FOLDERS / f"{_prefix(number)}-lab"


def _lock_file(number: int) -> Path:
    return LOCKS / f"{_prefix(number)}-lab.lock"


def _claim_number() -> tuple[int, int]:
    routes = json.loads(tool("ip", "-4", "-json", "route", "show", "table", "all"))
    taken = [ip_network(route["dst"]) for route in routes if route["dst"] != "default"]
    for number in NUMBERS:
        subnet = ip_network(f"10.77.{number}.0/24")
        if any(subnet.overlaps(other) for other in taken):
            continue
        lock = _try_lock(number)
        if lock is not None:
            return number, lock
    raise LabError("every 10.77.N.0/24 is in use on this machine")


def _try_lock(number: int) -> int | None:
    path = _lock_file(number)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have removed the file that was opened here.
        if path.stat().st_ino == os.fstat(lock).st_ino:
            return lock
    os.close(lock)
    return None


def _release(number: int, lock: int) -> None:
    _lock_file(number).unlink()
    os.close(lock)


def _namespaces(prefix: str) -> Iterator[str]:
    for path in sorted(NAMESPACES.glob(f"{prefix}-*")):
        yield path.name


def _remove(number: int) -> None:
    """Removes lab `number` by names alone: a dead process's lab goes as a living one's does."""
    prefix = _prefix(number)
    groups = [ControlGroup(name=name) for name in groups_of(f"{prefix}-")]
    # First: once its other end's namespace is deleted the kernel removes it at a time of its own.
    if Path(f"/sys/class/net/{prefix}").exists():
        tool("ip", "link", "del", prefix)
    deadline = time.monotonic() + SWEEP_TIMEOUT_S
    for namespace in _namespaces(prefix):
        while pids := tool("ip", "netns", "pids", namespace).split():
            for pid in map(int, pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for group in groups:
                group.thaw()  # a frozen process cannot die
            if time.monotonic() > deadline:
                raise LabError(f"processes of lab {number} do not die: {', '.join(pids)}")
            time.sleep(0.01)
        tool("ip", "netns", "del", namespace)
    for group in groups:
        group.remove()
    if _folder(number).exists():
        # The hosts' bind mounts went with their mount namespaces; what is left are plain files.
        shutil.rmtree(_folder(number))
