"""What a job is busy with is told without flooding a log, and drawn in place on a terminal."""

import sys

import pytest

from sollol_tui.cli.stages import Stages


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
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    stages = Stages()
    stages.show("hydra: model: 0% 0 B of 2 GiB")
    stages.show("attic: model: 50% 1 GiB of 2 GiB, 110.0 MiB/s, 9s left and more")
    stages.show("hydra: model: 100% 2 GiB of 2 GiB")
    stages.show("starting the ranks")
    assert capsys.readouterr().out.splitlines() == [
        "  hydra  ..................   0% model 0 B of 2 GiB",
        "\x1b[1F\x1b[J  hydra  ..................   0% model 0 B of 2 GiB",
        "  attic  #########.........  50% model 1 GiB of 2 GiB, 110.",
        "\x1b[2F\x1b[J  hydra  ################## 100% model 2 GiB of 2 GiB",
        "  attic  #########.........  50% model 1 GiB of 2 GiB, 110.",
        "  starting the ranks",
    ]
