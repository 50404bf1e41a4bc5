"""Hosts that share their environments, which stay: to build that of torch on each of them, and to
remove it after each test, takes a minute or two. How one is built is told by test_provision.py."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import CHECKOUT
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.cluster.training.elastic_job import EVERYBODY, ElasticJob, recording_coordinator

STEP_S = 0.1
LIGHTHOUSE_S = 6.0  # more where the lighthouse that was asked is lost, too
ROOM = 3  # times the bar, for a machine that does something else: a hang of gloo's takes longer


@pytest.fixture(scope="session")
def _machines(lab_is_possible: None) -> Iterator[Lab]:
    cache = Path(os.environ.get("UV_CACHE_DIR", CHECKOUT / ".cache" / "uv"))
    environments = cache / "environments"  # they go with the cache into which they link
    environments.mkdir(parents=True, exist_ok=True)
    shared = {cache: UV_CACHE_ON_HOSTS, environments: "~/.sollol/envs"}
    with Lab.up(hosts=3, shared=shared) as machines:
        yield machines


@pytest.fixture
def lab(_machines: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three hosts, on and connected, with nothing of an earlier test on them but environments."""
    if request.node.get_closest_marker("keep_workdir") is None:
        wipe(_machines)
    yield _machines
    _machines.reset()


def wipe(machines: Lab) -> None:
    machines.wipe_workdirs()
    for host in machines.hosts:  # or the workdir would be somebody else's
        (host.home / ".sollol" / "payload").mkdir()


@pytest.fixture(scope="module")
def job(_machines: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticJob]:
    """One elastic job for all cases of a file, because its start is what costs."""
    wipe(_machines)
    folder = tmp_path_factory.mktemp("elastic")
    with recording_coordinator(_machines, folder, STEP_S) as coordinator:
        yield ElasticJob.submit(coordinator, "w1", "w2", "w3")
    _machines.reset()


@pytest.fixture
def hosts(job: ElasticJob, _machines: Lab) -> Iterator[list[Machine]]:
    """w1 (slot 0), w2 and w3: all of them members."""
    job.shared_by(EVERYBODY, time.monotonic(), timeout_s=200)
    yield _machines.hosts
    for host in _machines.hosts:
        if host.is_on:
            host.heal()


@pytest.fixture
def gap_is_short(
    job: ElasticJob, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, float, tuple[int, ...], float], None]:
    """Shows for how long nobody committed after a fault, beside its bar. What fails is only what
    no load of this machine explains."""

    def look(fault: str, since: float, slots: tuple[int, ...], bar_s: float) -> None:
        gap, step = job.gap(since, slots)
        bar = 2.5 * step + bar_s + LIGHTHOUSE_S * job.lost_lighthouse(since)
        with capsys.disabled():
            sys.stdout.write(
                f"\n    {fault}: {gap:.2f} s without a commit = {gap / step:.1f} median steps of "
                f"{step:.2f} s; bar {bar:.2f} s; load {os.getloadavg()[0]:.1f}\n"
            )
        assert gap < ROOM * bar, job.story()

    return look
