"""The bench, whose hosts get what they need once in a session; and a job of which nothing runs,
with workers that hold what a test puts there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.hosts.environment import Environment
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Place
from sollol_tui.model.inventory import ConnectionKind, Host, Inventory
from sollol_tui.model.spec import JobSpec
from tests.jobs.bench import Bench, write_model, write_rows
from tests.jobs.samples import add_job
from tests.jobs.saved import run_dir_of
from tests.payloads import stub_payload

ENVIRONMENT = Environment(python="python3", payload="/nowhere", env_id="e", payload_hash="p")


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


@pytest.fixture
def plain_client(tmp_path: Path) -> Iterator[SOLLOLClient]:
    with SOLLOLClient(tmp_path / "inventory.yaml", home=tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def held_job(plain_client: SOLLOLClient, tmp_path: Path) -> str:
    """A job of w1 and w2, which are folders of this machine, and w3, to which no way leads."""
    local = [
        Host(name=name, connection=ConnectionKind.LOCAL, workdir=str(tmp_path / name))
        for name in ("w1", "w2")
    ]
    far = Host(name="w3", address="203.0.113.1", connect_timeout_s=0.2)
    with Store(plain_client.home) as store:
        job = add_job(store, "host w1", "host w2")
        inventory = Inventory(file="inventory.yaml", hosts=(*local, far))
        spec = JobSpec(model="m", dataset="rows.jsonl")
        store.note_wish(job, spec=spec, inventory=inventory, same_hosts=())
        store.note_output(job, tmp_path / "out")
        for host in ("w1", "w2"):
            run_dir = str(run_dir_of(tmp_path, job, host))
            place = Place(environment=ENVIRONMENT, run_dir=run_dir, dataset="d", model="m")
            store.note_worker(job, host, environment=place.as_data(), run_dir=run_dir)
    return job
