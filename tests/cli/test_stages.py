"""What a job is busy with is told without flooding a log, and drawn in place on a terminal."""

import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from sollol_tui.cli.stages import Stages, counted, scored
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.view import read_job
from sollol_tui.model.snapshot import JobView, TeacherView
from tests.jobs.samples import add_job

CHECKOUT = Path(__file__).resolve().parents[2]


def job_view(*, samples_total: int) -> JobView:
    with Store(open_home()) as store:
        return replace(read_job(store, add_job(store)), samples_total=samples_total)


def test_a_log_gets_a_line_for_each_new_thing_and_some_of_a_transfer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stages = Stages()
    for second in range(25):
        now = float(second)
        for host in ("hydra", "attic"):
            stages.show(f"{host}: model: {4 * second}% 1 MiB of 2 MiB")
        stages.show("hydra: uv: sending ours" if second < 12 else "starting the ranks")
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("  starting the ranks") == 13
    shown = [line for line in lines if "model" in line]
    assert len(shown) == 6
    assert shown[:2] == [f"  {host}: model: 0% 1 MiB of 2 MiB" for host in ("hydra", "attic")]


def test_a_terminal_shows_every_host_in_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    stages = Stages()
    stages.show("hydra: model: 0% 0 B of 2 GiB")
    stages.show("attic: model: 50% 1 GiB of 2 GiB, 110.0 MiB/s, 9s left and more than fits")
    stages.show("hydra: model: 100% 2 GiB of 2 GiB")
    stages.show("starting the ranks")
    shown = capsys.readouterr()
    assert shown.out == "  starting the ranks\n"
    last = click.unstyle(shown.err.rpartition("\x1b[2F\x1b[J")[2]).splitlines()
    assert last == [
        "  hydra  ######## 100% model 2 GiB of 2 GiB",
        "  attic  ####....  50% model 1 GiB of 2 GiB, 110.0 MiB/s, 9",
    ]


def test_rows_that_a_worker_tokenises_are_counted_against_the_dataset() -> None:
    """The notice is remote/data/tokenising.py's."""
    assert 'f"tokenised about {' in (CHECKOUT / "remote/data/tokenising.py").read_text()
    view = job_view(samples_total=124_000)
    notice = "  w1: tokenised about 28,000 rows so far"
    assert counted(notice, view, 2) == "w1: tokenising: 45% 28,000 of 62,000 rows"
    assert counted("  w1: tokenised rows.jsonl in 3.1 s with one process", view, 2) is None
    assert counted(notice, job_view(samples_total=0), 2) is None


def test_how_far_a_teacher_is_stands_in_a_log_and_below_the_steps_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = TeacherView(host="attic", state="scoring", done=600, total=2400, hits=100)
    others = (TeacherView(host="hydra", state="done", done=9, total=9), replace(busy, total=0))
    [stage] = scored(replace(job_view(samples_total=1), teachers=(busy, *others)))
    Stages().show(stage)
    said = "25% 600 of 2,400 scored, 100 of them found in a cache"
    assert capsys.readouterr().out == f"  attic: scoring: {said}\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stages = Stages()
    stages.show(stage)
    stages.give_way()
    shown = capsys.readouterr().err
    assert click.unstyle(shown).startswith("  attic  ####..............  25% scoring 600 of 2,400 ")
    assert shown.endswith("\x1b[1F\x1b[J")


def test_what_goes_on_beside_it_does_not_make_news_of_what_a_job_is_busy_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stages = Stages()
    for second in range(25):
        now = float(second)
        stages.show("starting the ranks")
        stages.show_beside(f"attic: scoring: {min(second, 14)}% and so on")
    assert capsys.readouterr().out.splitlines() == [
        "  starting the ranks",
        "  attic: scoring: 0% and so on",
        "  attic: scoring: 10% and so on",
        "  attic: scoring: 14% and so on",
    ]
