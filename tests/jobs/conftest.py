"""The bench: what its hosts need is installed once in a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from tests.jobs.bench import Bench, write_model, write_rows
from tests.payloads import stub_payload


@pytest.fixture(scope="session")
def installed_hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the payload that needs no torch, and the workdirs in which it gets installed."""
    folder = tmp_path_factory.mktemp("bench")
    stub_payload(folder / "payload")
    return folder


@pytest.fixture
def bench(
    installed_hosts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(installed_hosts / "payload"))
    write_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    client = SOLLOLClient(tmp_path / "inventory.yaml", home=tmp_path / "home")
    made = Bench(
        workdirs=installed_hosts / "hosts", folder=tmp_path, home=client.home, client=client
    )
    made.lay_out({}, {})
    yield made
    made.clear()
    client.close()
