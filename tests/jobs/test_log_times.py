"""When the lines of a log came is known to a second, whatever became of the notes about it."""

import os
import time
from pathlib import Path

import pytest

from sollol_tui.jobs import log_times
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


def came(reader: LogReader) -> list[tuple[str, str, float | None]]:
    return [(line.host, line.text, line.at) for line in reader.read()]


def test_each_line_has_its_time_and_the_oldest_of_all_ranks_comes_first(
    tmp_path: Path, clock: type[Clock]
) -> None:
    w1, w2, times = tmp_path / "w1" / "log.0.1", tmp_path / "w2" / "log.1.1", LogTimes()
    grow(w1, "one\rONE\n\n", times, clock, 1000)
    grow(w2, "two\n", times, clock, 1010)
    grow(w1, "three\n", times, clock, 1020)
    grow(w1, "soon\n", times, clock, 1020.5)  # too soon to be taken down
    grow(w2, "four", times, clock, 1030)
    reader = LogReader(tmp_path)
    assert came(reader) == [
        ("w1", "ONE", 1000), ("w1", "", 1000), ("w2", "two", 1010), ("w1", "three", 1020),
        ("w1", "soon", 1020.5),
    ]  # fmt: skip
    grow(w1, "five\n", times, clock, 1050)
    grow(w2, "!\n", times, clock, 1040)
    assert came(reader) == [("w2", "four!", 1040), ("w1", "five", 1050)]


@pytest.mark.parametrize("block", [64, 1 << 16])
def test_a_reader_of_the_end_finds_its_times_at_the_end_of_the_notes(
    tmp_path: Path, clock: type[Clock], monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    copy, times = tmp_path / "w1" / "log.0.1", LogTimes()
    for number in range(200):
        grow(copy, f"line {number:03d}\n", times, clock, 2000 + 2 * number)
    monkeypatch.setattr(log_times, "_BLOCK", block)
    assert came(LogReader(tmp_path, tail_bytes=18)) == [
        ("w1", "line 198", 2396), ("w1", "line 199", 2398),
    ]  # fmt: skip


def test_of_lines_whose_time_nobody_took_down_nothing_is_claimed(tmp_path: Path) -> None:
    copy = tmp_path / "w1" / "log.0.1"
    copy.parent.mkdir()
    copy.write_text("one\n")
    assert came(LogReader(tmp_path)) == [("w1", "one", None)]
