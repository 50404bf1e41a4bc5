"""The lab as fixtures. Where it cannot be made its tests are skipped, or fail if they are required.

SOLLOL_REQUIRE_CLUSTER=1 (set by .ci/run) turns the skip into a failure.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sollol_tui.jobs.home import open_home
from tests.cluster.coordinator import Coordinator, fill_cache
from tests.cluster.lab import Lab, missing_pieces
from tests.jobs.bench import supervisors, write_model, write_rows
from tests.payloads import stub_payload

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
UV_CACHE_ON_HOSTS = "/mnt/uv-cache"
SHORT = {"SOLLOL_STUB_STEPS": "10", "SOLLOL_STUB_STEP_S": "0.02"}


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


@pytest.fixture(scope="module")
def payload(lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("payload")
    fill_cache(stub_payload(folder / "stub"), folder / "cache")
    return folder / "stub"


@pytest.fixture
def coordinator(
    lab: Lab, payload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Coordinator]:
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(payload))
    write_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", rows=10_000)  # its plan has more steps than any rank takes
    made = Coordinator(
        lab=lab,
        home=open_home(tmp_path / "home"),
        folder=tmp_path,
        cache_on_hosts=UV_CACHE_ON_HOSTS,
    )
    made.knows_hosts()
    made.lay_out(SHORT)
    yield made
    for process in supervisors(made.home):
        process.kill()
