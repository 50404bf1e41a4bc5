"""Bars are drawn where somebody watches, as wide as the terminal, and leave no trace."""

import json
import re
import sys
from pathlib import Path

import click
import pytest

from sollol_tui.cli.bars import Bars
from sollol_tui.cli.main import root
from sollol_tui.cli.session import Session
from tests.cli.pseudo_terminal import at_terminal, piped

LOCAL = {"connection": "local"}


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes one of standard error."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def drawn(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


@pytest.mark.parametrize("columns", [20, 60, 160])
def test_a_bar_is_never_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    on_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    bars = Bars()
    bars.show("wörker-機械", 0.5, "1 GiB of 2 GiB, 110.0 MiB/s, 9s left" * 4)
    line = re.sub(r"\x1b\[\d*m", "", drawn(capsys)).rstrip("\n")
    assert 10 < sum(2 if char in "機械" else 1 for char in line) < columns


def test_colour_is_left_out_on_demand_and_the_bar_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch)
    Bars().show("w1", 1.0, "done")
    assert "\x1b[36m##" in drawn(capsys)
    with click.Context(root, color=False):  # NO_COLOR, --color never
        Bars().show("w1", 1.0, "done")
    assert drawn(capsys) == "  w1  ################## 100% done\n"


@pytest.mark.parametrize("why", ["pipe", "dumb", "quiet", "json"])
def test_nothing_is_drawn_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    on_terminal(monkeypatch)
    if why == "pipe":
        monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    if why == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    with click.Context(root, obj=Session(quiet=why == "quiet")):
        bars = Bars(beside_json=why == "json")
        bars.show("w1", 0.5, "half")
        bars.settle()
        bars.clear()
    assert drawn(capsys) == ""


def test_what_is_cleared_leaves_an_empty_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch)
    bars = Bars()
    bars.show("hosts", None, "1/2 hosts done; w1: gpu")
    bars.clear()
    assert drawn(capsys) == "  hosts  1/2 hosts done; w1: gpu\n\x1b[1F\x1b[J"


def test_the_doctor_shows_where_it_is_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(
        json.dumps({"hosts": {"one": LOCAL | {"workdir": str(tmp_path / "workdir")}}})
    )
    with at_terminal("doctor") as watched:
        watched.exit_code()
        assert re.search(r"hosts  [#.]+ +\d+% 0/1 hosts done; one: ", watched.text)
    assert piped("doctor").stderr == ""
    with at_terminal("doctor", "--json") as watched:
        watched.exit_code()
        assert json.loads(watched.text)["schema"] == "sollol.doctor/1"
