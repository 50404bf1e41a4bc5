"""What an adapter changes, told by the program that workers run: losses that are the trainer's own,
and answers before and after."""

import json
import math
import os
import threading

import pytest

from remote.beginning import FOLDER
from remote.checkpoint import ADAPTER, write_folder
from remote.errand import carry_out
from remote.evaluate import evaluate
from remote.following import call_when_left, follow
from remote.train import main
from tests.remote.torch.test_beginning import checkpoint

CONFIG = "adapter_config.json"


@pytest.fixture
def trained(make_world, tiny_model, dataset):
    """A job that held rows out, and evaluated after its last step."""
    world = make_world("trained").plan(
        tiny_model, dataset, 1, val_size=0.3, save_steps=3, learning_rate=1e-2
    )
    assert main([str(world.run_dir()), "0", "1"]) == 0
    return world


def give_adapter(world, source):
    def fill(folder):
        for name in (ADAPTER, CONFIG):
            (folder / name).write_bytes((source / name).read_bytes())

    write_folder(world.run_dir() / FOLDER, fill)


def ask(world, program, samples=0):
    file = world.run_dir() / "run.json"
    told = json.loads(file.read_bytes()) | {"program": program, "samples": samples}
    file.write_text(json.dumps(told))


def evaluated(world, samples=0):
    ask(world, "evaluate", samples)
    held = follow(world.run_dir())
    try:
        watches = threading.active_count()
        code = carry_out([str(world.run_dir()), "0", "1"], evaluate)
        assert threading.active_count() == watches  # none that would end this process later
    finally:
        os.close(held)
    assert code == 0, world.events("failed")
    return world.events("finished")[0]


def test_its_losses_are_those_of_the_trainer_on_the_same_rows(
    trained, make_world, tiny_model, dataset
):
    # Other micro-batches than in training: they change nothing.
    world = make_world("evaluated").plan(tiny_model, dataset, 1, val_size=0.3, batch_size=7)
    give_adapter(world, trained.run_dir() / "result")
    outcome = evaluated(world)
    said = trained.events("evaluation")[-1]
    assert outcome["rows"] == said["rows"] > 5
    assert outcome["loss"] == pytest.approx(said["loss"], abs=1e-4)
    # A fresh model knows nothing of 260 bytes and a few marks.
    assert outcome["loss_before"] == pytest.approx(math.log(300), abs=1.0)
    assert outcome["loss"] < outcome["loss_before"] - 0.5


def test_a_checkpoint_is_as_good_as_it_was_then(trained, make_world, tiny_model, dataset):
    world = make_world("evaluated").plan(tiny_model, dataset, 1, val_size=0.3)
    give_adapter(world, checkpoint(trained, 3))
    then = next(event for event in trained.events("evaluation") if event["step"] == 3)
    assert evaluated(world)["loss"] == pytest.approx(then["loss"], abs=1e-4)


def test_some_rows_are_answered_before_and_after(trained, make_world, tiny_model, dataset):
    world = make_world("evaluated").plan(
        tiny_model, dataset, 1, val_size=0.3, sample_prompts=["colour 3?"], sample_tokens=8
    )
    give_adapter(world, trained.run_dir() / "result")
    evaluated(world, samples=2)
    own, *rows = world.events("example")
    assert (own["prompt"], own["place"], own["expected"]) == ("colour 3?", "prompt", "")
    assert len(rows) == 2
    asked = [json.loads(line) for line in dataset.read_text().splitlines()]
    for told in rows:
        row = asked[int(told["place"].removeprefix("row ")) - 1]
        assert row["instruction"] in told["prompt"]
        assert row["output"] not in told["prompt"]
        assert row["output"] in told["expected"]
    assert all(told["before"] != told["after"] for told in (own, *rows))


def test_another_dataset_is_evaluated_whole(trained, make_world, tiny_model, dataset):
    world = make_world("evaluated").plan(tiny_model, dataset, 1, val_size=0.0)
    give_adapter(world, trained.run_dir() / "result")
    assert evaluated(world)["rows"] == 47
    progress = world.events("progress")
    assert {event["phase"] for event in progress} == {"before", "after"}
    assert progress[-1]["done"] == progress[-1]["total"] == 47


def test_nobody_who_follows_ends_it(tmp_path):
    held = follow(tmp_path)
    left = []
    thread = call_when_left(tmp_path, lambda: left.append(True), patience_s=0.3)
    thread.join(0.6)
    assert not left
    os.close(held)
    thread.join(30)
    assert left == [True]
