"""One machine of the lab: its sshd, power switch, dials, and what a test may look at or break.

Refuses: to know the other machines, and to hide anything from the code under test, which sees a
plain OpenSSH host.
"""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.cluster.cable import Cable, LabError, tool
from tests.cluster.cgroup import ControlGroup
from tests.cluster.disk import PYTHON_HOME, ROOT_HOME, Disk
from tests.cluster.processes import Seen, of_child_namespace

SEARCH_PATH = f"{PYTHON_HOME}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_TIMEOUT_S = 60.0
POLL_S = 0.01
TCP_LISTEN = "0A"


class Process(NamedTuple):
    pid: int  # as the host itself counts
    command: str


def make_key(path: Path) -> None:
    tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path))


@dataclass(kw_only=True)
class Machine:
    name: str
    address: str
    gateway: str
    prefix: str  # starts every system-wide name this lab makes
    folder: Path
    authorized_key: str
    cpu_percent: int
    rate: str
    shared: Mapping[Path, str]
    _init: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._booted_with = (self.cpu_percent, self.rate)
        self._cable = Cable(
            name=self.name,
            address=self.address,
            gateway=self.gateway,
            namespace=f"{self.prefix}-{self.name}",
            switch=f"{self.prefix}-switch",
        )
        self._group = ControlGroup(name=f"{self.prefix}-{self.name}")
        self._disk = Disk(folder=self.folder, shared=self.shared)
        self._host_key = self.folder / "host_key"
        self._log = self.folder / "sshd.log"
        self._disk.create(self.authorized_key)
        make_key(self._host_key)
        self._write_sshd_config()

    @property
    def home(self) -> Path:
        """root's home on this host, as a path outside of it."""
        return self._disk.home

    @property
    def known_hosts_line(self) -> str:
        kind, key = self._host_key.with_suffix(".pub").read_text().split()[:2]
        return f"{self.address} {kind} {key}"

    @property
    def sshd_log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def is_on(self) -> bool:
        return self._init is not None and self._init.poll() is None

    # Power

    def start(self) -> None:
        """Switches the host on without waiting for it: see `wait_until_up`."""
        if self.is_on:
            raise LabError(f"{self.name} is already on")
        self._cable.plug_in(self.rate)
        self._group.create()
        self._group.limit_cpu(self.cpu_percent)
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        with self._log.open("ab") as log:
            self._init = subprocess.Popen(
                self._group.entered(
                    [
                        "ip",
                        "netns",
                        "exec",
                        self._cable.namespace,
                        "unshare",
                        "--mount",
                        "--uts",
                        "--pid",
                        "--ipc",
                        "--fork",
                        "--kill-child",
                        "--mount-proc",
                        "sh",
                        "-euxc",
                        self._init_script(),
                    ]
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # Ctrl+C in pytest is not a power cut
            )

    def boot(self) -> None:
        """Switches the host on and returns when its sshd answers."""
        self.start()
        self.wait_until_up()

    def wait_until_up(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            if not self.is_on:
                raise LabError(f"{self.name} stopped while it booted; its log:\n{self.sshd_log}")
            try:
                with socket.create_connection((self.address, 22), timeout=1.0) as connection:
                    if connection.recv(8).startswith(b"SSH-"):
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.name} ({self.address}) showed no SSH banner within {timeout_s:g} s; "
                    f"its log:\n{self.sshd_log}"
                )
            time.sleep(POLL_S)

    def power_off(self) -> None:
        """Goes silent at once: no FIN leaves the host; its disk is kept."""
        self._cable.unplug()
        self.crash()

    def crash(self) -> None:
        """Kills every process; the kernel still says goodbye on their connections."""
        if self._init is None:
            return
        if self._init.poll() is None:
            os.kill(self._first_pid(), signal.SIGKILL)
            self._group.thaw()  # a frozen process cannot die
        # unshare ends when the host's pid namespace is empty.
        self._init.wait(timeout=BOOT_TIMEOUT_S)
        self._init = None

    def freeze(self) -> None:
        """Stops every process where it is, as a suspended laptop does; the network stays up."""
        self._group.freeze()

    def thaw(self) -> None:
        self._group.thaw()

    # Cable

    def cut(self) -> None:
        """Unplugs the cable at the switch."""
        self._cable.cut()

    def heal(self) -> None:
        """Plugs the cable in again, and forgets what `drop_incoming_from` said."""
        self._cable.heal()

    def drop_incoming_from(self, address: str) -> None:
        """Loses every packet from `address`: a one-way fault, or half of a partition."""
        self._cable.drop_incoming_from(address)

    def set_rate(self, rate: str) -> None:
        """Limits the cable in both directions, for example to "100mbit"."""
        self.rate = rate
        self._cable.set_rate(rate)

    def set_cpu(self, percent: int) -> None:
        """100 is one core."""
        self.cpu_percent = percent
        self._group.limit_cpu(percent)

    # Inside

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: str | None = None,
        timeout_s: float = 60.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host as root in its home, not over SSH."""
        words = [str(word) for word in argv]
        done = subprocess.run(
            self._inside(["env", "-C", str(ROOT_HOME), *words]),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**_environment(), **(env or {})},
        )
        if check and done.returncode:
            raise LabError(
                f"{shlex.join(words)} on {self.name}: exit {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def processes(self) -> list[Process]:
        """What runs on the host, besides its init and its SSH server."""
        return [
            Process(seen.pid, seen.command)
            for seen in self._all_processes()
            if seen.pid != 1 and seen.program and not seen.program.startswith("sshd")
        ]

    def listening_ports(self) -> set[int]:
        """TCP ports that someone on the host listens on, besides SSH."""
        ports = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self._first_pid()}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == TCP_LISTEN:
                    ports.add(int(local.rpartition(":")[2], 16))
        return ports - {22}

    def restart_sshd(self, host_key: str = "same") -> None:
        """Starts the SSH server again; `host_key="new"` gives the host another identity."""
        for seen in self._all_processes():
            if seen.listens_for_ssh:
                os.kill(seen.outer_pid, signal.SIGKILL)
        if host_key == "new":
            self._host_key.unlink()
            self._host_key.with_suffix(".pub").unlink()
            make_key(self._host_key)
        self.run(self._sshd_command())
        self.wait_until_up()

    def end_logins(self) -> int:
        """Kills the sshd of every connection, as a router does that forgets them; says how many."""
        ended = 0
        for seen in self._all_processes():
            if seen.program.startswith("sshd") and not seen.listens_for_ssh:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(seen.outer_pid, signal.SIGKILL)
                    ended += 1
        return ended

    # Between tests

    def reset(self) -> None:
        """Makes the host as it was after its first boot, apart from the files in its home."""
        cpu_percent, rate = self._booted_with
        if not self.is_on:
            self.cpu_percent, self.rate = cpu_percent, rate
            self.boot()
            return
        self.thaw()
        self.heal()
        if (self.cpu_percent, self.rate) != (cpu_percent, rate):
            self.set_cpu(cpu_percent)
            self.set_rate(rate)
        self.kill_leftovers()
        self.wait_until_up()

    def kill_leftovers(self) -> list[Process]:
        """Kills all but init and the listening sshd, connections included; says what it found."""
        found = self.processes()
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while doomed := [
            seen for seen in self._all_processes() if seen.pid != 1 and not seen.listens_for_ssh
        ]:
            for seen in doomed:
                try:
                    os.kill(seen.outer_pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} could not be cleaned: {doomed}")
            time.sleep(POLL_S)
        return found

    def wipe_workdir(self) -> None:
        """Removes ~/.sollol, apart from folders of the machine that are shown inside it."""
        self._disk.wipe(".sollol")

    # Parts

    def _write_sshd_config(self) -> None:
        (self.folder / "sshd_config").write_text(
            f"HostKey {self._host_key}\n"
            f"ListenAddress {self.address}:22\n"
            "PidFile none\n"
            "UsePAM no\n"
            "UseDNS no\n"
            "PermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
            "StrictModes no\n"  # the way to the home leads through the machine's shared folders
            "MaxStartups 200\n"
            "MaxSessions 200\n"
            # The Python of the tests is the one that the host offers.
            f"SetEnv PATH={SEARCH_PATH}\n"
            "Subsystem sftp internal-sftp\n"
        )

    def _sshd_command(self) -> list[str]:
        sshd = shutil.which("sshd", path=SEARCH_PATH)
        assert sshd is not None, "lab.missing_pieces() looks for it"
        return [sshd, "-f", f"{self.folder}/sshd_config", "-E", str(self._log)]

    def _init_script(self) -> str:
        """The first process: gives the host its own files, starts sshd, then reaps orphans."""
        boot_id = "/proc/sys/kernel/random/boot_id"
        steps = [
            ["hostname", self.name],
            *self._disk.mounts(),
            ["mkdir", "/run/sshd"],
            ["mount", "--bind", str(self.folder / "boot_id"), boot_id],
            self._sshd_command(),
        ]
        # A process that ignores SIGCHLD lets the kernel reap every orphan.
        return "\n".join([*map(shlex.join, steps), "trap '' CHLD", "exec sleep infinity"])

    def _inside(self, argv: list[str]) -> list[str]:
        enter = [
            "nsenter",
            "--target",
            str(self._first_pid()),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
        ]
        return self._group.entered([*enter, "--", *argv])

    def _first_pid(self) -> int:
        """The host's init as the machine below counts."""
        for seen in self._all_processes():
            if seen.pid == 1:
                return seen.outer_pid
        raise LabError(f"{self.name} is off; its log:\n{self.sshd_log}")

    def _all_processes(self) -> list[Seen]:
        return of_child_namespace(self._init.pid) if self._init and self.is_on else []


def _environment() -> dict[str, str]:
    return {"HOME": str(ROOT_HOME), "PATH": SEARCH_PATH, "LANG": "C.UTF-8"}
