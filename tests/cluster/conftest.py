"""The lab as fixtures. Where it cannot be made its tests are skipped, or fail if they are required.

SOLLOL_REQUIRE_CLUSTER=1 (set by .ci/run) turns the skip into a failure.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from sollol_tui.hosts.build import install_options
from sollol_tui.model.inventory import Packages
from tests.cluster.coordinator import package_sources
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


@pytest.fixture(scope="session")
def filled_cache(lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fills the cache that the hosts share with what a worker's environment holds.

    They are offline. The same command as on a host, once, outside of it; a full cache makes it a
    matter of links.
    """
    folder = tmp_path_factory.mktemp("cache") / "environment"
    cache = os.environ.get("UV_CACHE_DIR", f"{CHECKOUT}/.cache/uv")
    env = os.environ | {"UV_CACHE_DIR": cache, "UV_LINK_MODE": "symlink"}
    uv = find_uv_bin()
    lock = (CHECKOUT / "remote" / "worker.lock").read_text()
    options, constraint, backend = install_options(
        Packages(**package_sources()),
        accelerator="cpu",
        arch=platform.machine(),
        lock=lock,
    )
    (folder.parent / "constraint.txt").write_text(f"{constraint}\n")
    make = [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)]
    subprocess.run(make, check=True, env=env)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"),
         "--requirement", "remote/worker.in", "--constraint", "remote/worker.lock",
         "--constraint", str(folder.parent / "constraint.txt"), *options,
         *([f"--torch-backend={backend}"] if backend else [])],
        check=True, env=env, cwd=CHECKOUT,
    )  # fmt: skip
