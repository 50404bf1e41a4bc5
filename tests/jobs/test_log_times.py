"""When the lines of a log came is known to a second, whatever became of the notes about it."""

import os
import time
from pathlib import Path

import pytest

from sollol_tui.jobs.log_times import LogTimes, size_before
from sollol_tui.jobs.logs import LogChoice, LogReader


class Clock:
    now = 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(time, "time", lambda: Clock.now)
    Clock.now = 1_000.0
    return Clock


def grow(copy: Path, text: str, times: LogTimes, clock: type[Clock], at: float) -> None:
    clock.now = at
    copy.parent.mkdir(exist_ok=True)
    with copy.open("a") as file:
        file.write(text)
    os.utime(copy, (at, at))
    times.note(copy)


def since(folder: Path, moment: float) -> list[str]:
    return [line.text for line in LogReader(folder, LogChoice(since=moment)).read()]


def test_only_what_came_since_is_read(tmp_path: Path, clock: type[Clock]) -> None:
    copy, times = tmp_path / "w1" / "log.0.1", LogTimes()
    grow(copy, "one\n", times, clock, 1000)
    grow(copy, "two\n", times, clock, 1000.3)  # too soon to be told from the one before
    grow(copy, "three\nfo", times, clock, 1060)
    grow(copy, "ur\n", times, clock, 1120)
    grow(copy, "five\n", times, clock, 1121)
    assert since(tmp_path, 0) == ["one", "two", "three", "four", "five"]
    assert since(tmp_path, 1030) == ["three", "four", "five"]
    assert since(tmp_path, 1100) == ["four", "five"]  # whole, though it began before
    assert since(tmp_path, 1121) == ["five"]
    assert since(tmp_path, 1200) == []


def test_a_later_supervisor_goes_on_with_the_notes(tmp_path: Path, clock: type[Clock]) -> None:
    copy = tmp_path / "w1" / "log.0.1"
    grow(copy, "one\n", LogTimes(), clock, 1000)
    grow(copy, "two\n", LogTimes(), clock, 2000)
    assert since(tmp_path, 1500) == ["two"]


def test_without_notes_or_with_damaged_ones_too_much_is_read_and_nothing_missing(
    tmp_path: Path, clock: type[Clock]
) -> None:
    copy = tmp_path / "w1" / "log.0.1"
    grow(copy, "one\n", LogTimes(), clock, 1000)
    grow(copy, "two\n", LogTimes(), clock, 2000)
    notes = tmp_path / "w1" / "times.0.1"
    notes.write_bytes(b"\xff 7\n2000 x\nnan nan\n" + notes.read_bytes() + b"2000")
    assert since(tmp_path, 1500) == ["two"]
    notes.unlink()
    assert since(tmp_path, 1500) == ["one", "two"]
    assert size_before(copy, 2001) == copy.stat().st_size


def test_events_are_not_noted(tmp_path: Path, clock: type[Clock]) -> None:
    grow(tmp_path / "w1" / "events.0.1.jsonl", "{}\n", LogTimes(), clock, 1000)
    assert sorted(path.name for path in (tmp_path / "w1").iterdir()) == ["events.0.1.jsonl"]
