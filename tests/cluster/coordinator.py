"""The coordinator beside the lab: its state folder, its inventory, and `sollol` as a person calls
it, in a process of its own."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from sollol_tui.client import SOLLOLClient
from sollol_tui.hosts.build import install_options
from sollol_tui.hosts.payload import LOCK as PACKAGES_LOCK
from sollol_tui.hosts.payload import REQUIREMENTS
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.supervise import LOCK
from sollol_tui.model.inventory import Packages
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.jobs.bench import COPIED, supervisors, until

COMMAND_S = 120.0
CHECKOUT = Path(__file__).resolve().parents[2]


def package_sources() -> dict[str, str]:
    """Where this machine gets its packages from: the hosts have to look there too."""
    names = {
        "index_url": ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"),
        "find_links": ("UV_FIND_LINKS", "PIP_FIND_LINKS"),
    }
    found = {key: next(filter(None, map(os.environ.get, n)), None) for key, n in names.items()}
    return {key: value for key, value in found.items() if value is not None}


def fill_cache(payload: Path, folder: Path) -> None:
    """Fills the cache that the hosts share with what `payload` needs: they are offline.

    The same command as on a host, outside of it; where the cache is full it only makes links."""
    cache = os.environ.get("UV_CACHE_DIR", f"{CHECKOUT}/.cache/uv")
    env = os.environ | {"UV_CACHE_DIR": cache, "UV_LINK_MODE": "symlink"}
    options, constraint, backend = install_options(
        Packages(**package_sources()),
        build="cpu",
        arch=platform.machine(),
        lock=(payload / PACKAGES_LOCK).read_text(),
    )
    folder.mkdir()
    (folder / "constraint.txt").write_text(f"{constraint}\n")
    environment, files = folder / "environment", ["--constraint", str(folder / "constraint.txt")]
    files += [
        "--requirement",
        str(payload / REQUIREMENTS),
        "--constraint",
        str(payload / PACKAGES_LOCK),
    ]
    backends = [f"--torch-backend={backend}"] if backend else []
    make = ["venv", "--quiet", "--no-project", "--python", sys.executable, str(environment)]
    fill = ["pip", "install", "--quiet", "--python", str(environment), *files, *options, *backends]
    for arguments in (make, fill):
        subprocess.run([find_uv_bin(), *arguments], check=True, env=env, cwd=folder)


@dataclass
class Coordinator:
    lab: Lab
    home: Home
    folder: Path
    cache_on_hosts: str

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yaml"

    def knows_hosts(self) -> None:
        """The user has compared and accepted the keys of all hosts."""
        self.home.known_hosts.write_text(self.lab.known_hosts_text())

    def lay_out(
        self, env: Mapping[str, str] | None = None, cpu_cores: int | None = 1, **extra: Any
    ) -> None:
        """Writes the inventory; packages come from the shared cache, and nothing else. Hosts that
        are told how many cores to use all take the same ones: they share this machine's."""
        shared = {
            "UV_CACHE_DIR": self.cache_on_hosts,
            "UV_OFFLINE": "1",
            "UV_LINK_MODE": "symlink",
            # To compile torch and transformers anew on each of them takes a minute on two cores.
            "PYTHONPYCACHEPREFIX": f"{self.cache_on_hosts}/compiled",
        }
        defaults = {
            "connect_timeout": "3s",
            "limits": {} if cpu_cores is None else {"cpu_cores": cpu_cores},
            "env": {**shared, **(env or {})},
        }
        text = self.lab.inventory_text(defaults=defaults, packages=package_sources(), **extra)
        self.inventory.write_text(text)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sollol_tui.cli", "-i", str(self.inventory), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=os.environ | {"SOLLOL_HOME": str(self.home.root)},
        )

    def sollol(self, *arguments: str, expect: int = 0, timeout_s: float = COMMAND_S) -> str:
        """What the command printed; fails when it ends otherwise than expected."""
        with self.popen(*arguments) as process:
            try:
                said, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == expect, f"exit {process.returncode}, not {expect}\n{said}"
        return said

    def train(self, *arguments: str) -> list[str]:
        """The ranks of the stub payload know one engine; what is set later counts."""
        settings = ["--model", "model", "--dataset", "rows.jsonl", "--set", "engine=static"]
        return ["train", *settings, *arguments]

    def client(self) -> SOLLOLClient:
        return SOLLOLClient(self.inventory, home=self.home.root)

    def jobs(self) -> list[JobView]:
        client = self.client()
        try:
            return client.list_jobs()
        finally:
            client.close()

    def job_reaches(self, *states: JobState) -> JobView:
        """The newest job once it is in one of the states. Looks only: revives nobody."""
        from sollol_tui.jobs.store import Store
        from sollol_tui.jobs.view import read_jobs

        with Store(self.home) as store:

            def there() -> JobView | None:
                job = next(iter(read_jobs(store)), None)
                if job is None or (job.state.is_terminal and job.state not in states):
                    assert job is None, f"{job.state}: {job.reason}\n{self.supervisor_log(job.id)}"
                return job if job is not None and job.state in states else None

            found: JobView = until(there, f"a job is {' or '.join(states)}", 60)
            return found

    def supervisor_log(self, job: str) -> str:
        return (self.home.job(job) / "supervisor.log").read_text()

    def kill_supervisors(self) -> None:
        for process in supervisors(self.home):
            process.kill()
        locks = list((self.home.root / "jobs").glob(f"*/{LOCK}"))
        until(lambda: not any(is_held(lock) for lock in locks), "the supervisors are dead")

    def is_clean(self, host: Machine) -> bool:
        return not host.processes() and not host.listening_ports()

    def assert_clean(self) -> None:
        """No process and no listening port of ours on any host that is on."""
        for host in self.lab.hosts:
            if host.is_on:
                left = (host.processes(), host.listening_ports())
                assert left == ([], set()), f"{host.name}: {left}"

    def run_dir(self, job: str, host: Machine) -> Path:
        return host.home / ".sollol" / "runs" / job / host.name

    def copies_are_equal(self, job: str, *hosts: Machine) -> bool:
        """Whether every log and event file of the workers is here, byte for byte."""
        for host in hosts:
            there = [p for p in self.run_dir(job, host).iterdir() if p.is_file()]
            written = {
                p.name: p.read_bytes()
                for p in there
                if p.name.startswith(COPIED) and p.stat().st_size
            }
            here = self.home.copies(job, host.name).iterdir()
            assert written == {p.name: p.read_bytes() for p in here if p.name.startswith(COPIED)}
        return True


def is_held(lock: Path) -> bool:
    from sollol_tui.jobs.home import Home
    from sollol_tui.jobs.supervise import is_supervised

    return is_supervised(Home(lock.parents[2]), lock.parent.name)
