"""A state of one's own and a job in it that is held to run; no supervisor is ever started."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import sollol_tui.client
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.jobs.samples import add_job

WAY = (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    hosts = {
        name: {"connection": "local", "workdir": str(tmp_path / name)} for name in ("w1", "w2")
    }
    (tmp_path / "inventory.yaml").write_text(json.dumps({"hosts": hosts}))
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: [])
    with Store(open_home()) as opened:
        yield opened


@pytest.fixture
def running(store: Store) -> str:
    job = add_job(store, "host w1", "host w2")
    for state in WAY:
        store.move_job(job, state)
    store.note_launch(job, generation=1, main_port=29500)
    store.note_progress(job, {"step": 57, "max_steps": 100})
    return job
