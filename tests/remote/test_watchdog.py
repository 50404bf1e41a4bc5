"""The loss watchdog: what falls apart is told from what is only noisy."""

import random

from remote.watchdog import Trend, Watchdog


def alarms(losses: list[float], factor: float = 3.0, patience: int = 5) -> list[int]:
    """After how many losses it would have stopped the run."""
    watchdog = Watchdog(factor, patience, Trend())
    return [number for number, loss in enumerate(losses, 1) if watchdog.look(loss)]


FALLING = [4.0 - 0.05 * step for step in range(60)]


def test_a_loss_that_stays_high_is_a_divergence_after_so_many_steps():
    assert alarms([*FALLING, *[6.0] * 10])[0] == len(FALLING) + 5


def test_a_peak_shorter_than_the_patience_is_none():
    assert alarms([*FALLING, *[60.0] * 4, *FALLING, *[60.0] * 4, 1.0]) == []


def test_noise_and_a_loss_near_zero_are_none():
    chance = random.Random(3)
    assert alarms([2 + chance.uniform(-1.5, 1.5) for _ in range(500)], patience=3) == []
    assert alarms([*FALLING, *[0.001] * 100, *[0.4] * 100]) == []


def test_a_resumed_run_remembers_how_good_it_was():
    log = [{"step": 1, "loss": 1.0}, {"step": 1, "eval_loss": 9.0}]
    watchdog = Watchdog(3.0, 2, Trend.of_history(log))
    assert watchdog.look(4.0) is None
    said = watchdog.look(4.2)
    assert said is not None
    assert "the loss is 4.200 and has been above 3 x its best (1.000) for 2 steps" in said


def test_zero_watches_nothing():
    assert alarms([1.0, *[1e6] * 100], factor=0) == []
