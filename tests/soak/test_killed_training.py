"""A run whose ranks are killed again and again, at random moments. Run: make soak"""

import random
import shutil
from collections import Counter
from typing import Any

import pytest

from remote.checkpoint import damage
from tests.remote.torch.fixtures import World
from tests.remote.torch.test_kills import ROWS, assert_same_weights

KILLS = 50
EPOCHS = 120  # more steps than all the kills let pass
LOADING_S, STEPS, IN_STEP_S = 2.0, 12, 0.05  # how long a rank is let live at most
SETTINGS = {"epochs": EPOCHS, "save_steps": 3, "learning_rate": 2e-4}


@pytest.mark.timeout(1800)
def test_a_run_killed_again_and_again_trains_every_row_once_per_epoch(
    make_world: Any, tiny_model: Any, dataset: Any
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    calm = make_world("calm").plan(tiny_model, dataset, 1, **SETTINGS)
    assert calm.train(deadline_s=600) == [0]
    world: World = make_world("killed").plan(tiny_model, dataset, 1, **SETTINGS)
    folder = world.run_dir() / "checkpoints"
    inside = 0
    for _ in range(KILLS):
        kill_somewhere(world, chance)
        inside += any(folder.glob(".checkpoint-*"))
        kept = list(folder.glob("checkpoint-*"))
        assert [damage(path) for path in kept] == [None] * len(kept)
    print(f"{inside} of {KILLS} kills were inside a checkpoint's writing; {len(kept)} kept")
    shutil.copytree(folder, world.folder / "w2" / "checkpoints")
    world.plan(tiny_model, dataset, 2, **SETTINGS)
    assert world.train(deadline_s=600) == [0, 0]
    assert Counter(world.trained_rows()) == dict.fromkeys(range(ROWS), EPOCHS)
    assert_same_weights(world, calm)


def kill_somewhere(world: World, chance: random.Random) -> None:
    """Kills the rank while it loads, one time in five, or somewhere in its steps."""
    [rank] = world.start()
    if chance.random() < 0.2:
        rank.join(chance.uniform(0, LOADING_S))
    else:
        steps = chance.randint(0, STEPS)
        while rank.is_alive() and world.committed_steps() < steps:
            rank.join(0.005)
        rank.join(chance.uniform(0, IN_STEP_S))
    assert rank.is_alive(), "the run was over, or failed, before it was killed"
    rank.kill()
    rank.join()
