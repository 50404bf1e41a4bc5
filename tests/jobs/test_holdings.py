"""Checkpoints of a job: who holds which whole, and how one of them comes to a folder here."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.jobs import events
from sollol_tui.jobs.checkpoints import kept_folder
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.checkpoints import CheckpointView
from sollol_tui.model.errors import InputError, JobError, NotFoundError
from sollol_tui.model.events import decode
from sollol_tui.model.plan import Plan
from tests.jobs.samples import line
from tests.jobs.saved import run_dir_of, write_checkpoint


def steps(found: tuple[CheckpointView, ...]) -> dict[int, tuple[str, ...]]:
    return {each.step: each.whole_at for each in found}


def test_each_checkpoint_is_told_with_the_places_that_hold_it_whole(
    plain_client: SOLLOLClient, held_job: str, tmp_path: Path
) -> None:
    for host in ("w1", "w2"):
        for step in (100, 200):
            write_checkpoint(run_dir_of(tmp_path, held_job, host) / "checkpoints", step)
    damaged = (
        run_dir_of(tmp_path, held_job, "w2")
        / "checkpoints/checkpoint-200/adapter_model.safetensors"
    )
    damaged.write_bytes(b"w" * 999 + b"x")
    (run_dir_of(tmp_path, held_job, "w1") / "checkpoints/checkpoint-100/deep/it's $HOME").unlink()
    write_checkpoint(kept_folder(plain_client.home, held_job), 100)
    write_checkpoint(tmp_path / "out", 300)
    (tmp_path / "out" / "checkpoint-9x").mkdir()
    said = decode(line("checkpoint", 0, step=200, samples_done=3200))
    assert said is not None
    with Store(plain_client.home) as store:
        events.add_events(store, held_job, "w1", "events.0.1.jsonl", [(0, said)], 1)
    found = plain_client.checkpoints(held_job)
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
    plain_client: SOLLOLClient, held_job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("w1", "w2"):
        write_checkpoint(run_dir_of(tmp_path, held_job, host) / "checkpoints", 200)
    (
        run_dir_of(tmp_path, held_job, "w1")
        / "checkpoints/checkpoint-200/adapter_model.safetensors"
    ).write_bytes(b"")
    place = plain_client.fetch(held_job, checkpoint="newest")
    assert place == tmp_path / "out-checkpoint-200"
    assert (place / "adapter_model.safetensors").read_bytes() == b"w" * 1000
    assert (place / "job.yaml").read_text().startswith(f"# {held_job}-checkpoint-200\n")
    monkeypatch.chdir(tmp_path)
    assert plain_client.fetch(held_job, checkpoint=200, to="mine") == tmp_path / "mine"
    shutil.rmtree(tmp_path / "w1")
    shutil.rmtree(tmp_path / "w2")
    write_checkpoint(kept_folder(plain_client.home, held_job), 300)
    assert plain_client.fetch(held_job, checkpoint=300, to="kept") == tmp_path / "kept"
    assert sorted(p.name for p in tmp_path.glob(".*")) == []


def test_of_students_who_learn_apart_it_has_to_be_said_whose_checkpoint(
    plain_client: SOLLOLClient, held_job: str, tmp_path: Path
) -> None:
    with Store(plain_client.home) as store:
        plan = load(Plan, store.job(held_job).plan)
        store.note_plan(held_job, replace(plan, apart=True))
    for host in ("w1", "w2"):
        files = {"adapter_model.safetensors": host.encode()}
        write_checkpoint(run_dir_of(tmp_path, held_job, host) / "checkpoints", 200, files)
    with pytest.raises(JobError, match=r"each student of .* on its worker: w1, w2; bring one"):
        plain_client.fetch(held_job, checkpoint="newest")
    place = plain_client.fetch(held_job, checkpoint="newest", host="w2")
    assert place == tmp_path / "out-w2-checkpoint-200"
    assert (place / "adapter_model.safetensors").read_bytes() == b"w2"
    with pytest.raises(NotFoundError, match=f"w9 has had no part in {held_job}; its workers: w1"):
        plain_client.fetch(held_job, checkpoint=200, host="w9")


def test_a_checkpoint_never_takes_the_place_of_other_files(
    plain_client: SOLLOLClient, held_job: str, tmp_path: Path
) -> None:
    write_checkpoint(kept_folder(plain_client.home, held_job), 100)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="mine holds other files; name another folder"):
        plain_client.fetch(held_job, checkpoint=100, to=str(tmp_path / "mine"))
    with pytest.raises(InputError, match="is a file; name a folder"):
        plain_client.fetch(held_job, checkpoint=100, to=str(tmp_path / "mine" / "thesis.tex"))
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_checkpoint_that_nobody_has_is_told_with_those_that_there_are(
    plain_client: SOLLOLClient, held_job: str, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="has no checkpoint;"):
        plain_client.fetch(held_job, checkpoint="newest")
    for step in (100, 200):
        write_checkpoint(run_dir_of(tmp_path, held_job, "w1") / "checkpoints", step)
    with pytest.raises(NotFoundError, match="has no checkpoint-150; there are: 200, 100"):
        plain_client.fetch(held_job, checkpoint=150)


def test_a_worker_that_cannot_be_asked_is_told(
    plain_client: SOLLOLClient, held_job: str, tmp_path: Path
) -> None:
    with Store(plain_client.home) as store:
        plan = store.job(held_job).plan.replace('"w2"', '"w3"')
        store.connection.execute("UPDATE jobs SET plan = ? WHERE id = ?", (plan, held_job))
        store.connection.execute(
            "UPDATE workers SET host = 'w3' WHERE job = ? AND host = 'w2'", (held_job,)
        )
    write_checkpoint(run_dir_of(tmp_path, held_job, "w1") / "checkpoints", 100)
    found = plain_client.checkpoints(held_job)
    assert steps(found.checkpoints) == {100: ("w1",)}
    assert list(found.silent) == ["w3"]
