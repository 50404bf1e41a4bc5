"""The processes of supervisors: who is one, who is started again, what they leave on failing."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.jobs import supervise
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import LOCK, is_supervised, start_supervisor
from sollol_tui.jobs.view import read_job
from sollol_tui.model.errors import StateError
from tests.jobs.bench import until
from tests.jobs.samples import add_job

JOB = "j-0001"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def test_whoever_asks_is_not_taken_for_a_supervisor(home: Home) -> None:
    home.job(JOB).mkdir(parents=True)
    with (home.job(JOB) / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # another one asks
        assert not is_supervised(home, JOB)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_supervised(home, JOB)


def test_a_supervisor_that_cannot_start_says_why_and_is_not_tried_again_at_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOLLOL_HOME", str(home.root))
    started: list[str] = []
    monkeypatch.setattr(supervise, "start_supervisor", lambda _, job: started.append(job))
    with Store(home) as store:
        job = add_job(store)
        store.connection.execute("UPDATE jobs SET spec = '{' WHERE id = ?", (job,))
        assert supervise.main(job) == 1
        stage = read_job(store, job).stage
        assert stage.startswith("its supervisor failed: ")
        assert stage.endswith(f"; see: sollol logs {job} --supervisor")
        assert "\n" not in stage
        assert supervise.revive(store) == []
        failed = home.job(job) / supervise.FAILED
        os.utime(failed, (0, failed.stat().st_mtime - supervise.RETRY_S))
        assert supervise.revive(store) == started == [job]


def test_a_supervisor_whose_state_was_removed_ends(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def note(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", note)
    with Store(home) as store:
        job = add_job(store)  # it waits for hosts that are not there
        start_supervisor(home, job)
        until(lambda: is_supervised(home, job), "its supervisor")
    shutil.rmtree(home.root)
    assert started[0].wait(60) == 1
    assert not home.root.exists()


def test_a_job_folder_that_cannot_be_made_is_told(home: Home) -> None:
    (home.root / "jobs").write_text("")
    for act in (start_supervisor, is_supervised):
        with pytest.raises(StateError, match=r"/jobs.* cannot be used: .*; is it yours"):
            act(home, JOB)
