"""Whole trainings with the elastic engine: real ranks, a tiny model, and one of them killed."""

import gc
import json
from pathlib import Path

import pytest
import torch

from remote.checkpoint import damage
from remote.control import Action
from remote.engine.elastic import ElasticEngine
from remote.session import Cursor
from remote.state import Learnt, make_moments
from remote.step import commit, compute, next_step
from remote.train import main
from remote.watchdog import Trend
from tests.remote.torch.fixtures import Doom, elastic

STEPS = 6


def assert_same_curve(one: dict[int, float], other: dict[int, float]) -> None:
    assert one.keys() == other.keys() == {*range(1, STEPS + 1)}
    for step, loss in one.items():
        assert other[step] == pytest.approx(loss, rel=1e-5), f"step {step}"


def test_elastic_ranks_learn_what_one_learns_even_when_one_of_them_is_killed(
    make_world, tiny_model, dataset, lighthouse
):
    settings = {"save_steps": 2, "val_size": 0.0}
    alone = make_world("alone").plan(tiny_model, dataset, 1, **settings)
    assert main([str(alone.run_dir()), "0", "1"]) == 0
    three = elastic(make_world("three").plan(tiny_model, dataset, 3, **settings), lighthouse)
    doom = Doom(module="remote.train", function="compute", call=4)
    assert three.train(doom) == [0, 0, -9]
    assert_same_curve(alone.losses(), three.losses())
    assert sorted(three.trained_rows()) == [*range(47)]
    ends = [three.events("finished", host)[0] for host in ("w1", "w2")]
    assert ends[0]["digest"] == ends[1]["digest"]
    assert [bool(end["result"]) for end in ends] == [True, False]
    assert [event["world_size"] for event in three.events("ready")] == [3]
    assert three.events("step")[-1]["world_size"] == 2
    said = [event["message"] for event in three.events("notice")]
    assert any("w3 (slot 2)" in message and "go on" in message for message in said)


def test_who_joins_a_run_that_goes_on_is_settled_with_the_others_once(
    make_world, tiny_model, dataset, lighthouse, monkeypatch
):
    world = elastic(make_world("alone").plan(tiny_model, dataset, 1, save_steps=2), lighthouse)
    acts: list[str] = []
    for act in ("settle", "reduce"):
        monkeypatch.setattr(ElasticEngine, act, _noted(acts, act))
    arguments = [str(world.run_dir()), "0"]
    monkeypatch.setattr("remote.train.read_control", lambda _: Action.STOP)
    assert main([*arguments, "1"]) == 0
    assert acts == ["settle", "settle", "reduce", "settle"]  # what precedes the first step is slow
    acts.clear()
    monkeypatch.setattr("remote.train.read_control", lambda _: Action.RUN)
    assert main([*arguments, "2"]) == 0
    # Those who did not begin anew have computed their part of this sum, and wait for ours.
    assert acts[:3] == ["settle", "reduce", "settle"]


def _noted(acts, act):
    real = getattr(ElasticEngine, act)

    def noting(*arguments):
        acts.append(act)
        return real(*arguments)

    return noting


def test_when_the_first_rank_dies_over_the_result_the_next_one_leaves_it(
    make_world, tiny_model, dataset, lighthouse
):
    three = make_world("three").plan(tiny_model, dataset, 3, val_size=0.2)
    elastic(three, lighthouse)
    doom = Doom(module="remote.train", function="write_result", call=1)
    assert three.train(doom, of=0) == [-9, 0, 0]
    [finished] = three.events("finished", "w2")
    assert damage(Path(finished["result"])) is None
    state = json.loads((Path(finished["result"]) / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "eval_loss" in entry] == [
        state["global_step"]
    ]
    assert not (three.run_dir("w1") / "result").exists()


def test_the_collector_of_garbage_has_little_to_look_over_in_a_rank_that_beats(session):
    assert len(gc.get_objects()) < gc.get_freeze_count() / 10


def test_a_state_moves_whole_and_its_digest_sees_one_bit(session):
    cursor = Cursor()
    make_moments(session.optimizer)
    before = session.model.flat_weights()
    learnt = Learnt(session.model, session.optimizer, cursor, {})
    first, blank = learnt.digest(), learnt.flatten()
    for _ in range(2):
        step = next_step(session, cursor)
        commit(session, step, compute(session, step))
        cursor.step, cursor.samples_done = step.number, cursor.samples_done + len(step.samples)
        cursor.history.append({"step": step.number, "loss": 0.1})
        cursor.trend.take(0.1)
    after, whole = learnt.digest(), learnt.flatten()
    learnt.load(blank)
    assert (cursor.step, cursor.samples_done, cursor.history) == (0, 0, [])
    assert cursor.trend == Trend()
    assert learnt.digest() == first != after
    assert torch.equal(session.model.flat_weights(), before)
    learnt.load(whole)
    assert learnt.digest() == after
    assert cursor.trend.lowest == pytest.approx(0.1)
    assert torch.equal(learnt.flatten().view(torch.int32), whole.view(torch.int32))
    parameter = session.model.parameters[3]
    parameter.data.view(torch.int32).view(-1)[1] ^= 1
    assert learnt.digest() != after
