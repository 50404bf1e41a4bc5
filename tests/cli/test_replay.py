"""`sollol replay` and `sollol dashboard` as commands: what they keep and what they refuse."""

import sys
from pathlib import Path

import pytest

from sollol_tui.jobs.recording import open_recording
from tests.cli.shell import sollol


def test_a_job_is_kept_in_a_folder_that_can_be_sent(running: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code, out, err = sollol("replay", running, "--save", str(kept))
    assert (code, out) == (0, "")
    assert f"{running} is in {kept}; show it: sollol replay {kept}" in err
    assert open_recording(kept)[1] == running
    assert kept.stat().st_mode & 0o077 == 0, "it holds what nobody else should read"
    code, _, err = sollol("replay", running, "--save", str(kept))
    assert code != 0
    assert "it is there already; name a new folder" in err


def test_what_cannot_be_replayed_is_told(running: str, tmp_path: Path) -> None:
    code, _, err = sollol("replay", "j-nothing")
    assert (code, "no job 'j-nothing'" in err) == (5, True)
    code, _, err = sollol("replay", str(tmp_path / "none"))
    assert (code, "is no recording: it holds no state.db" in err) == (5, True)
    code, _, err = sollol("replay", running, "--from", "soon")
    assert (code, "'soon' is not a duration" in err) == (2, True)
    code, _, err = sollol("replay", running)
    assert (code, "shown on a terminal, and this is none" in err) == (1, True)


def test_a_dashboard_without_its_package_says_which(
    running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve", None)
    monkeypatch.delitem(sys.modules, "sollol_tui.ui.served", raising=False)
    code, _, err = sollol("dashboard")
    assert code == 1
    assert "needs the package textual_serve; pip install 'sollol-tui[web]'" in err


def test_a_dashboard_may_not_act_where_nothing_may(running: str) -> None:
    code, _, err = sollol("--readonly", "dashboard", "--control")
    assert (code, "--readonly is on" in err) == (1, True)
