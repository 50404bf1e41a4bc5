"""What steps told, read from the copies of event files as they grow."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from sollol_tui.jobs.figures import FigureReader, MetricReader
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.metrics import StepPoint, Trace
from tests.jobs.samples import copy_lines, line


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(open_home(tmp_path / "home")) as opened:
        yield opened


def steps(reader: MetricReader) -> list[int]:
    found: list[int] = []
    while points := reader.read():
        found += [point.step for point in points]
    return found


def test_only_new_whole_lines_of_the_right_job_and_host_are_read(store: Store) -> None:
    folder = store.home.job("j-9")
    reader = MetricReader(folder)
    assert reader.read() == [], "before anything was copied"
    copy_lines(store, "j-9", line("step", 0, step=1), line("ready", 0), line("step", 0, step=2))
    stranger = line("step", 0, step=7)  # says that it is of j-1
    own = folder / "w1" / "events.0.1.jsonl"
    with own.open("ab") as copy:
        copy.write(stranger + b"no event\n" + b'{"half')
    assert steps(reader) == [1, 2]
    copy_lines(store, "j-9", line("step", 0, step=3), host="w2")
    assert steps(reader) == [3]


def test_files_longer_than_one_reading_are_read_to_their_ends(store: Store) -> None:
    copy_lines(store, "j-9", *(line("loading", 0, pad="x" * 100_000) for _ in range(30)))
    copy_lines(store, "j-9", line("step", 0, step=1))
    reader = FigureReader(store.home.job("j-9"), "step")
    assert [event.count("step") for event in reader.read()] == [1]
    assert reader.read() == []


def test_a_long_curve_keeps_its_ends_its_form_and_a_bounded_size() -> None:
    trace = Trace(most=64)
    trace.add(StepPoint(step=step, loss=1 / (1 + step)) for step in range(10_000))
    trace.add([StepPoint(step=9_999, loss=0.5, generation=2)])
    points = trace.points
    assert 32 <= len(points) <= 64
    assert (points[-1].step, points[-1].loss) == (9_999, 0.5), "the last word counts"
    gaps = {after.step - before.step for before, after in pairwise(points)}
    assert max(gaps) <= 256, f"evenly spread: {gaps}"


def test_a_folder_that_is_not_there_has_no_figures(tmp_path: Path) -> None:
    assert FigureReader(tmp_path / "none", "step").read() == []
