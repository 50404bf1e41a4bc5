"""Checkpoints of a job: who holds which whole, and how one of them comes to a folder here."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.hosts.environment import Environment
from sollol_tui.jobs import events
from sollol_tui.jobs.checkpoints import kept_folder
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Place
from sollol_tui.model.checkpoints import CheckpointView
from sollol_tui.model.errors import InputError, NotFoundError
from sollol_tui.model.events import decode
from sollol_tui.model.inventory import ConnectionKind, Host, Inventory
from sollol_tui.model.spec import JobSpec
from tests.jobs.samples import add_job, line

ENVIRONMENT = Environment(python="python3", payload="/nowhere", env_id="e", payload_hash="p")


def write_checkpoint(folder: Path, step: int, files: Mapping[str, bytes] | None = None) -> Path:
    place = folder / f"checkpoint-{step}"
    if files is None:
        files = {"adapter_model.safetensors": b"w" * 1000, "deep/it's $HOME": b"%d" % step}
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    entries = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
    }
    (place / "manifest.json").write_text(json.dumps({"v": 1, "files": entries}, indent=1))
    return place


@pytest.fixture
def client(tmp_path: Path) -> Iterator[SOLLOLClient]:
    with SOLLOLClient(tmp_path / "inventory.yaml", home=tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def job(client: SOLLOLClient, tmp_path: Path) -> str:
    """A job of w1 and w2, which are folders of this machine, and w3, to which no way leads."""
    local = [
        Host(name=name, connection=ConnectionKind.LOCAL, workdir=str(tmp_path / name))
        for name in ("w1", "w2")
    ]
    far = Host(name="w3", address="203.0.113.1", connect_timeout_s=0.2)
    with Store(client.home) as store:
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


def run_dir_of(folder: Path, job: str, host: str) -> Path:
    return folder / host / "runs" / job / host


def steps(found: tuple[CheckpointView, ...]) -> dict[int, tuple[str, ...]]:
    return {each.step: each.whole_at for each in found}


def test_each_checkpoint_is_told_with_the_places_that_hold_it_whole(
    client: SOLLOLClient, job: str, tmp_path: Path
) -> None:
    for host in ("w1", "w2"):
        for step in (100, 200):
            write_checkpoint(run_dir_of(tmp_path, job, host) / "checkpoints", step)
    damaged = (
        run_dir_of(tmp_path, job, "w2") / "checkpoints/checkpoint-200/adapter_model.safetensors"
    )
    damaged.write_bytes(b"w" * 999 + b"x")
    (run_dir_of(tmp_path, job, "w1") / "checkpoints/checkpoint-100/deep/it's $HOME").unlink()
    write_checkpoint(kept_folder(client.home, job), 100)
    write_checkpoint(tmp_path / "out", 300)
    (tmp_path / "out" / "checkpoint-9x").mkdir()
    said = decode(line("checkpoint", 0, step=200, samples_done=3200))
    assert said is not None
    with Store(client.home) as store:
        events.add_events(store, job, "w1", "events.0.1.jsonl", [(0, said)], 1)
    found = client.checkpoints(job)
    assert steps(found.checkpoints) == {
        300: ("result",),
        200: ("w1",),
        100: ("w2", "coordinator"),
    }
    assert [each.samples_done for each in found.checkpoints] == [None, 3200, None]
    damages = {
        (h.place, h.step): h.damage for c in found.checkpoints for h in c.holdings if h.damage
    }
    assert damages == {
        ("w2", 200): "adapter_model.safetensors is damaged",
        ("w1", 100): "deep/it's $HOME is missing",
    }
    assert found.silent == {}
    assert json.loads(json.dumps(found.as_data()))["checkpoints"][1]["whole_at"] == ["w1"]


def test_a_checkpoint_comes_from_whoever_holds_it_whole(
    client: SOLLOLClient, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("w1", "w2"):
        write_checkpoint(run_dir_of(tmp_path, job, host) / "checkpoints", 200)
    (
        run_dir_of(tmp_path, job, "w1") / "checkpoints/checkpoint-200/adapter_model.safetensors"
    ).write_bytes(b"")
    place = client.fetch(job, checkpoint="newest")
    assert place == tmp_path / "out-checkpoint-200"
    assert (place / "adapter_model.safetensors").read_bytes() == b"w" * 1000
    assert (place / "job.yaml").read_text().startswith(f"# {job}-checkpoint-200\n")
    monkeypatch.chdir(tmp_path)
    assert client.fetch(job, checkpoint=200, to="mine") == tmp_path / "mine"
    shutil.rmtree(tmp_path / "w1")
    shutil.rmtree(tmp_path / "w2")
    write_checkpoint(kept_folder(client.home, job), 300)
    assert client.fetch(job, checkpoint=300, to="kept") == tmp_path / "kept"
    assert sorted(p.name for p in tmp_path.glob(".*")) == []


def test_a_checkpoint_never_takes_the_place_of_other_files(
    client: SOLLOLClient, job: str, tmp_path: Path
) -> None:
    write_checkpoint(kept_folder(client.home, job), 100)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="mine holds other files; name another folder"):
        client.fetch(job, checkpoint=100, to=str(tmp_path / "mine"))
    with pytest.raises(InputError, match="is a file; name a folder"):
        client.fetch(job, checkpoint=100, to=str(tmp_path / "mine" / "thesis.tex"))
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_checkpoint_that_nobody_has_is_told_with_those_that_there_are(
    client: SOLLOLClient, job: str, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="has no checkpoint;"):
        client.fetch(job, checkpoint="newest")
    for step in (100, 200):
        write_checkpoint(run_dir_of(tmp_path, job, "w1") / "checkpoints", step)
    with pytest.raises(NotFoundError, match="has no checkpoint-150; there are: 200, 100"):
        client.fetch(job, checkpoint=150)


def test_a_worker_that_cannot_be_asked_is_told(
    client: SOLLOLClient, job: str, tmp_path: Path
) -> None:
    with Store(client.home) as store:
        plan = store.job(job).plan.replace('"w2"', '"w3"')
        store.connection.execute("UPDATE jobs SET plan = ? WHERE id = ?", (plan, job))
        store.connection.execute(
            "UPDATE workers SET host = 'w3' WHERE job = ? AND host = 'w2'", (job,)
        )
    write_checkpoint(run_dir_of(tmp_path, job, "w1") / "checkpoints", 100)
    found = client.checkpoints(job)
    assert steps(found.checkpoints) == {100: ("w1",)}
    assert list(found.silent) == ["w3"]
