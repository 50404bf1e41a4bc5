"""Provisioning real OpenSSH hosts with the real workers' packages, and again when nothing is to do.

Run: make bench (root, OpenSSH and network namespaces; the packages come from uv's cache)
"""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sollol_tui.hosts.payload import payload_root
from sollol_tui.jobs.home import open_home
from tests.cluster.coordinator import Coordinator, fill_cache
from tests.cluster.lab import Lab, missing_pieces

CACHE_ON_HOSTS = "/mnt/uv-cache"
HOSTS = 4
RUNS = 5
SECOND_WORKDIR = "~/second"


@pytest.fixture
def coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    # As on a user's machine, where Python keeps what it has compiled.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))
    if missing := missing_pieces():
        pytest.skip(f"the lab cannot be made: {missing}")
    fill_cache(payload_root(), tmp_path / "filling")
    cache = Path(os.environ["UV_CACHE_DIR"])
    with Lab.up(hosts=HOSTS, cpu_percent=200, shared={cache: CACHE_ON_HOSTS}) as lab:
        made = Coordinator(
            lab=lab,
            home=open_home(tmp_path / "state"),
            folder=tmp_path,
            cache_on_hosts=CACHE_ON_HOSTS,
        )
        made.knows_hosts()
        made.lay_out()
        yield made


def timed(coordinator: Coordinator, *arguments: str) -> float:
    begun = time.perf_counter()
    coordinator.sollol("provision", *arguments, timeout_s=580)
    return time.perf_counter() - begun


@pytest.mark.timeout(600)
def test_four_hosts_from_nothing_and_eight_again(coordinator: Coordinator) -> None:
    """`sollol provision` as a person calls it, its start included. Eight hosts are four machines
    with two workdirs each."""
    names = [host.name for host in coordinator.lab.hosts]
    first = timed(coordinator, *names)
    again = min(timed(coordinator, *names) for _ in range(3))
    double(coordinator)
    eight = [*names, *(f"{name}-second" for name in names)]
    timed(coordinator, *eight)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    second = sorted(timed(coordinator, *eight) for _ in range(RUNS))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / RUNS
    start = min(timed_version(coordinator) for _ in range(3))
    print(
        f"\n4 hosts from nothing {first:.1f} s, again {again:.2f} s; 8 hosts again "
        f"{second[0]:.2f} to {second[-1]:.2f} s, {cpu:.2f} s of CPU; the start of sollol alone "
        f"{start:.2f} s; load {os.getloadavg()[0]:.0f}"
    )


def double(coordinator: Coordinator) -> None:
    """Each machine twice in the inventory, the second time with another workdir."""
    lines = []
    for line in coordinator.inventory.read_text().splitlines():
        lines.append(line)
        name, _, rest = line.strip().partition(": ")
        if name in {host.name for host in coordinator.lab.hosts}:
            twin = rest.replace("{", f'{{"workdir": "{SECOND_WORKDIR}", ', 1)
            lines.append(f"  {name}-second: {twin}")
    coordinator.inventory.write_text("\n".join(lines) + "\n")


def timed_version(coordinator: Coordinator) -> float:
    begun = time.perf_counter()
    coordinator.sollol("hosts", "--help")
    return time.perf_counter() - begun
