"""Students learn what the teacher says of their rows, and never go on without it."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from remote.batches import Layout
from remote.control import Action, write_control
from remote.distill.cache import Cache
from remote.step import Step, compute
from tests.remote.torch.fixtures import DEADLINE_S, elastic, started
from tests.remote.torch.scorers import Scoring, Students

SAMPLES = np.arange(20)


@pytest.fixture
def cache(scorers: Scoring) -> Cache:
    run_dir = scorers.plan()
    assert scorers.score(run_dir) == 0
    return scorers.cache(run_dir)


@pytest.fixture
def make_students(tmp_path: Path, fork_server: Any, tiny_model: Path, dataset: Path) -> Any:
    def make(name: str, ranks: int, **train: Any) -> Students:
        students = Students(tmp_path / name, fork_server)
        students.plan(tiny_model, dataset, ranks, **train)
        return students.taught()

    return make


def wait_for(claim: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := claim()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come within {DEADLINE_S:g} s")
        time.sleep(0.05)
    return found


def waits(students: Students, host: str, step: int) -> Callable[[], list[dict[str, Any]]]:
    def found() -> list[dict[str, Any]]:
        # An unfinished last line is not yet news.
        paths = students.run_dir(host).glob("events.*.jsonl")
        lines = [json.loads(s) for p in paths for s in p.read_text().split("\n")[:-1]]
        return [e for e in lines if e["kind"] == "awaiting_scores" and e["step"] == step]

    return found


def end(ranks: list[Any]) -> list[int]:
    for rank in ranks:
        rank.join(DEADLINE_S)
        if rank.is_alive():
            rank.kill()
            pytest.fail(f"{rank} did not end within {DEADLINE_S:g} s")
    return [rank.exitcode for rank in ranks]


def adapter(students: Students) -> dict[str, torch.Tensor]:
    return load_file(students.run_dir() / "result" / "adapter_model.safetensors")


@pytest.mark.parametrize("engine", [pytest.param("static", marks=pytest.mark.long), "elastic"])
def test_three_students_of_one_teacher_learn_what_one_alone_learns(
    make_students: Any, cache: Cache, engine: str, lighthouse: dict[str, Any]
) -> None:
    """Two epochs: the first in the order that all share, the second in the job's own."""
    one, three = (
        make_students(name, ranks, epochs=2).give(cache, 0, 1, 2)
        for name, ranks in (("one", 1), ("three", 3))
    )
    if engine == "elastic":
        elastic(three, lighthouse)
    assert one.train() == [0]
    learnt = adapter(one)
    assert sorted(one.trained_rows()) == sorted([*range(47)] * 2)
    assert three.train() == [0, 0, 0]
    for name, tensor in adapter(three).items():
        torch.testing.assert_close(tensor, learnt[name], rtol=1e-4, atol=1e-5)
    assert sorted(three.trained_rows()) == sorted(one.trained_rows())
    last = one.events("step")[-1]
    assert last["loss"] == pytest.approx(0.5 * last["ce"] + 0.5 * last["kl"])
    history = json.loads((one.run_dir() / "result" / "trainer_state.json").read_text())
    assert {"ce", "kl", "loss"} <= history["log_history"][0].keys()
    assert not one.events("awaiting_scores")


@pytest.mark.parametrize("engine", [pytest.param("static", marks=pytest.mark.long), "elastic"])
def test_students_that_outrun_their_teacher_wait_by_name_and_skip_nothing(
    make_students: Any, cache: Cache, engine: str, lighthouse: dict[str, Any]
) -> None:
    students = make_students("two", 2)
    if engine == "elastic":
        elastic(students, lighthouse)
    ranks = students.start()
    for host in students.hosts:
        [told, *_] = wait_for(waits(students, host, 1), f"that {host} waits for step 1")
        assert told["shards"] == [0]
    students.give_to("w1", cache, 0, 1, 2)  # the other one still lacks what it needs
    students.give_to("w2", cache, 0)
    wait_for(waits(students, "w2", 2), "that w2 waits for the last rows of step 2")
    students.give_to("w2", cache, 1, 2)
    assert end(ranks) == [0, 0]
    assert sorted(students.trained_rows()) == [*range(47)]
    assert [told["step"] for told in students.events("scores_here", "w2")] == [1, 2]


def test_students_that_wait_for_scores_stop_after_the_last_step(
    make_students: Any, cache: Cache
) -> None:
    """The second step is begun by a rank that has its scores, beside one that lacks them."""
    students = make_students("two", 2).give(cache, 0)
    ranks = students.start()
    wait_for(waits(students, "w2", 2), "that w2 waits for the last rows of step 2")
    for host in students.hosts:
        write_control(students.run_dir(host), Action.STOP)
    assert end(ranks) == [0, 0]
    for host in students.hosts:
        assert [told["step"] for told in students.events("stopped", host)] == [1]
        assert (students.run_dir(host) / "checkpoints" / "checkpoint-1").is_dir()
    for host in students.hosts:
        write_control(students.run_dir(host), Action.RUN)
    assert students.give(cache, 1, 2).train() == [0, 0]
    assert sorted(students.trained_rows()) == [*range(47)]


def test_a_student_that_is_its_own_teacher_begins_without_divergence(
    tmp_path: Path, make_students: Any, tiny_model: Path, dataset: Path
) -> None:
    scorers = Scoring(tmp_path / "same", tiny_model, tiny_model, dataset)
    run_dir = scorers.plan()
    assert scorers.score(run_dir) == 0
    cache = scorers.cache(run_dir)
    tally = gradient(make_students("alone", 1).give(cache, 0, 1, 2), Layout(size=4))[0]
    assert abs(tally.divergence / tally.tokens) < 1e-6
    assert tally.cross_entropy / tally.tokens > 1


@pytest.mark.parametrize("layout", [Layout(size=5), Layout(size=2, packed=True)])
def test_scores_meet_their_tokens_in_every_layout(
    make_students: Any, cache: Cache, layout: Layout
) -> None:
    students = make_students("alone", 1).give(cache, 0, 1, 2)
    single, of_singles = gradient(students, Layout(size=1))
    tally, of_layout = gradient(students, layout)
    assert tally.divergence == pytest.approx(single.divergence, rel=1e-5)
    torch.testing.assert_close(of_layout, of_singles, rtol=1e-4, atol=1e-6)


def gradient(students: Students, layout: Layout) -> tuple[Any, torch.Tensor]:
    for session in started(students):
        tokens = int(session.rows.label_counts[SAMPLES].sum())
        step = Step(number=1, samples=SAMPLES, share=SAMPLES, tokens=tokens, lr=1e-3)
        session.gradients.clear()
        tally = compute(replace(session, layout=layout), step)
        return tally, session.gradients.values.clone()
    raise AssertionError("no session")
