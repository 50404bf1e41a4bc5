"""`sollol train` asks before a job whose plan is odd, once, and only where somebody can answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sollol_tui.cli import train as training
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.view import read_jobs
from tests.cli.furnished import furnish, supervised
from tests.cli.pseudo_terminal import CTRL_C, at_terminal
from tests.cli.shell import sollol

ONE_ROW = ("train", "--model", "model", "--dataset", "rows.jsonl", "--workers", "one")
ODD = "odd     a single step is all of it: fewer samples (1) than the global batch (16)"


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (folder := tmp_path / "lab").mkdir()
    monkeypatch.chdir(folder)
    furnish(folder)
    with supervised():
        yield


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been submitted."""
    names: list[str] = []
    monkeypatch.setattr(
        training, "begin_and_follow", lambda client, prepared: names.append(prepared.name)
    )
    monkeypatch.setattr(training, "report_end", lambda view: 0)
    return names


def test_a_dry_run_changes_nothing_and_so_may_be_had_read_only() -> None:
    assert sollol("--readonly", *ONE_ROW, "--dry-run")[0] == 0
    assert "--readonly is on" not in sollol("--readonly", "rerun", "first-try", "--dry-run")[2]
    assert "--readonly is on" in sollol("--readonly", "rerun", "first-try")[2]


def jobs() -> set[str]:
    with Store(open_home()) as store:
        return {job.id for job in read_jobs(store)}


@pytest.mark.parametrize("answer", ["n\r", "\r", CTRL_C])
def test_whoever_says_no_has_started_no_job(answer: str) -> None:
    before = jobs()
    with at_terminal(*ONE_ROW) as terminal:
        terminal.asks("start it all the same? [y/N]: ")
        assert ODD in terminal.text
        terminal.type(answer)
        assert terminal.exit_code() == 130
        assert terminal.text.splitlines()[-1] == "no job was started"
    assert jobs() == before


def test_who_cannot_answer_or_does_not_want_to_be_asked_is_not(begun: list[str]) -> None:
    not_odd = [*ONE_ROW, "--set", "global_batch=1"]
    for arguments, typed in ((ONE_ROW, None), (["-y", *ONE_ROW], ""), (not_odd, "")):
        code, out, err = sollol(*arguments, typed=typed)
        assert (code, "same?" in out + err) == (0, False)
    assert len(begun) == 3
    assert sollol(*ONE_ROW, "--dry-run", typed="")[0] == 0
    assert len(begun) == 3
    code, _, err = sollol(*ONE_ROW, typed="y\n")
    assert (code, ODD in err, len(begun)) == (0, True, 4)
