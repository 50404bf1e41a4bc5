"""The lab as fixtures. Where it cannot be made its tests are skipped, or fail if they are required.

SOLLOL_REQUIRE_CLUSTER=1 (set by .ci/run) turns the skip into a failure.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import Lab, missing_pieces

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
UV_CACHE_ON_HOSTS = "/mnt/uv-cache"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "keep_workdir: start with the ~/.sollol that the previous test left on the hosts"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def lab_is_possible() -> None:
    """Skips, or fails where the lab is required, with what is missing."""
    missing = missing_pieces()
    if missing is None:
        return
    if os.environ.get("SOLLOL_REQUIRE_CLUSTER") == "1":
        pytest.fail(f"SOLLOL_REQUIRE_CLUSTER=1, but the lab cannot be made: {missing}")
    pytest.skip(f"the lab cannot be made: {missing}")


@pytest.fixture(scope="session")
def _machines(lab_is_possible: None) -> Iterator[Lab]:
    cache = Path(os.environ.get("UV_CACHE_DIR", CHECKOUT / ".cache" / "uv"))
    cache.mkdir(parents=True, exist_ok=True)
    with Lab.up(hosts=3, shared={cache: UV_CACHE_ON_HOSTS}) as machines:
        yield machines


@pytest.fixture
def lab(_machines: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three hosts, on and connected, with nothing of an earlier test on them."""
    if request.node.get_closest_marker("keep_workdir") is None:
        _machines.wipe_workdirs()
    yield _machines
    _machines.reset()
