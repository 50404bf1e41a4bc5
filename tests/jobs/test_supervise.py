"""The processes of supervisors: who is one, who is started again, what they leave on failing."""

import fcntl
from pathlib import Path

import pytest

from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.supervise import LOCK, is_supervised, start_supervisor
from sollol_tui.model.errors import StateError

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


def test_a_job_folder_that_cannot_be_made_is_told(home: Home) -> None:
    (home.root / "jobs").write_text("")
    for act in (start_supervisor, is_supervised):
        with pytest.raises(StateError, match=r"/jobs.* cannot be used: .*; is it yours"):
            act(home, JOB)
