"""Killed at any moment: what was committed stays, what was not is done again, nothing twice."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from remote.checkpoint import damage
from remote.train import main
from tests.remote.torch.fixtures import Doom

ROWS, STEPS = 47, 6


@pytest.mark.parametrize(
    ("doom", "ranks", "ranks_after", "goes_on_from"),
    [
        # Step 4 is added up and not committed.
        (Doom(module="remote.train", function="commit", call=4), 1, 1, 2),
        # Step 5 is committed, and no checkpoint holds it.
        pytest.param(
            *(Doom(module="remote.train", function="next_step", call=6), 2, 1, 4),
            marks=pytest.mark.long,
        ),
        # The files of checkpoint-4 are written, and some of them are on disk; each has six.
        (Doom(module="remote.checkpoint", function="_sync_file", call=9), 1, 2, 2),
    ],
)
def test_a_killed_run_goes_on_with_other_ranks_and_ends_where_an_undisturbed_one_does(
    make_world, tiny_model, dataset, doom, ranks, ranks_after, goes_on_from
):
    calm = make_world("calm").plan(tiny_model, dataset, 1, save_steps=2)
    assert main([str(calm.run_dir()), "0", "1"]) == 0
    world = make_world("killed").plan(tiny_model, dataset, ranks, save_steps=2)
    assert world.train(doom)[-1] == -9
    kept = list((world.run_dir() / "checkpoints").glob("checkpoint-*"))
    assert [damage(folder) for folder in kept] == [None] * len(kept)
    if ranks_after > ranks:  # a newcomer is given what the others hold
        shutil.copytree(world.run_dir() / "checkpoints", world.folder / "w2" / "checkpoints")
    world.plan(tiny_model, dataset, ranks_after, save_steps=2)
    assert world.train() == [0] * ranks_after
    notices = [event["message"] for event in world.events("notice")]
    assert any(f"continuing from checkpoint-{goes_on_from}," in line for line in notices)
    assert list(world.losses()) == list(range(1, STEPS + 1))
    assert sorted(world.trained_rows()) == list(range(ROWS))
    assert_same_weights(world, calm)


def assert_same_weights(one, other) -> None:
    file = "adapter_model.safetensors"
    expected = load_file(other.run_dir() / "result" / file)
    for name, weights in load_file(one.run_dir() / "result" / file).items():
        torch.testing.assert_close(weights, expected[name], rtol=1e-4, atol=1e-4)
