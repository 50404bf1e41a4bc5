"""Hosts that share their environments, which stay: to build that of torch on each of them, and to
remove it after each test, takes a minute or two. How one is built is told by test_provision.py."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import CHECKOUT
from tests.cluster.lab import Lab


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
