"""Whatever stands on the command line, sollol answers in sentences and with a code of its own.

FUZZ_EXAMPLES tries more of them than the suite does.
"""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sollol_tui.client
from sollol_tui.cli import status
from sollol_tui.cli.exits import ExitCode
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.cli.shell import sollol
from tests.jobs.samples import add_job
from tools import commands

# One trains, one serves until it is interrupted; the others are refused what acts, and find hosts
# that refuse them at once.
FOR_EVER = ("sollol demo", "sollol dashboard")
PATHS = {path: command for path, command, _ in commands.commands() if path not in FOR_EVER}
NASTY = [
    *("", "-", "--", "---", "-1", "9" * 40, "1e999", "nan", "!", "!w1", "w1,", "tag:", "j-", "%s"),
    *("{}", "[/b]", "../..", "~", "é\u202e", "\udcff", "\x1b[2J", "=", "a=b", "--set", "x" * 5000),
]
FLAGS = st.lists(st.sampled_from([*NASTY, "-q", "-v", "--color"]), max_size=2)


def words() -> st.SearchStrategy[list[str]]:
    """A command, then options of it and of others, with what is none of them between."""

    def after(path: str) -> st.SearchStrategy[list[str]]:
        own = [option for param in PATHS[path].params for option in param.opts]
        anything = st.one_of(
            st.sampled_from([*own, *NASTY]),
            st.text(st.characters(exclude_characters="\0"), max_size=20),
            st.integers().map(str),
        )
        return st.lists(anything, max_size=5).map(lambda rest: [*path.split()[1:], *rest])

    return st.sampled_from(sorted(PATHS)).flatmap(after)


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state whose job has ended and whose host refuses connections."""

    sleep = time.sleep

    def interrupt(*seconds: float, **_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        sleep(*seconds)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: [])
    monkeypatch.setattr(time, "sleep", interrupt)  # who follows for ever presses Ctrl+C
    monkeypatch.setattr(status, "_watch", interrupt)
    hosts = {"w1": {"address": "127.0.0.1", "port": 1, "user": "ml"}}
    (tmp_path / "inventory.yaml").write_text(json.dumps({"hosts": hosts}))
    with Store(open_home()) as store:
        store.move_job(add_job(store, name="tiny"), JobState.FAILED, "over")


@settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "120")), deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    arguments=words(), flags=st.lists(st.sampled_from([*NASTY, "-q", "-v", "--color"]), max_size=2)
)
def test_no_command_line_ends_in_a_traceback(
    ended: None, arguments: list[str], flags: list[str]
) -> None:
    code, out, err = sollol("--readonly", "--timeout", "0.2", *flags, *arguments)
    assert "Traceback" not in out + err
    assert "defect" not in err, err
    assert code in set(ExitCode)
