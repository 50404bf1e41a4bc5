"""What every program of a worker has in common: its arguments, its events, and its failure told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remote.events import EventWriter
from remote.program import carry_out
from remote.run import Rank, Run

RANK = {"slot": 4, "rank": 0, "host": "w1", "address": "127.0.0.1", "gpu": None}
RUN = {
    "v": 1, "job": "j-1", "host": "w1", "generation": 3, "engine": "static", "world": [RANK],
    "main_port": 0, "model": "m", "dataset": "d", "train": {},
}  # fmt: skip


def told(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "events.4.2.jsonl").read_text().splitlines()]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    return tmp_path


def raising(error: Exception) -> Callable[[Run, Rank, Path, EventWriter], None]:
    def act(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
        events.emit("loading", what=own.address)
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "sentence", "is_foreseen"),
    [
        (FileNotFoundError("there is no\n such model"), "there is no such model", True),
        (KeyError("lm_head"), "KeyError: 'lm_head'", False),
        (ZeroDivisionError(), "ZeroDivisionError", False),
    ],
)
def test_a_failure_is_one_sentence_and_its_kind_where_nobody_foresaw_it(
    run_dir: Path, error: Exception, sentence: str, is_foreseen: bool
) -> None:
    assert carry_out([str(run_dir), "4", "2"], raising(error), (FileNotFoundError,)) == 1
    loading, failed = told(run_dir)
    assert (loading["kind"], loading["what"]) == ("loading", "127.0.0.1")
    assert (failed["kind"], failed["error"], failed["foreseen"]) == (
        "failed",
        sentence,
        is_foreseen,
    )
    assert type(error).__name__ in failed["traceback"]
    assert {key: failed[key] for key in ("job", "host", "slot", "attempt", "generation")} == {
        "job": "j-1",
        "host": "w1",
        "slot": 4,
        "attempt": 2,
        "generation": 3,
    }


def test_what_ends_well_is_told_by_itself_alone(run_dir: Path) -> None:
    def act(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
        events.emit("finished", job_of=run.job)

    assert carry_out([str(run_dir), "4", "2"], act) == 0
    assert [event["kind"] for event in told(run_dir)] == ["finished"]
