"""Which samples a step consumes: each exactly once per epoch, whoever computes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.data.order import deal, samples_of_step, steps_of_run
from remote.run import Train
from remote.schedule import learning_rate

WORLD = 3


@pytest.mark.parametrize("rows", [1, WORLD - 1, WORLD, WORLD + 1, 1201])
@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("global_batch", [1, 8, 64])
def test_every_epoch_has_each_sample_exactly_once(rows, epochs, global_batch):
    dealt = []
    for step in range(steps_of_run(rows, global_batch, epochs)):
        samples = samples_of_step(42, rows, global_batch, epochs, step)
        dealt += [sample for part in deal(len(samples), [1.0] * WORLD) for sample in samples[part]]
    assert len(dealt) == rows * epochs
    for epoch in range(epochs):
        assert sorted(dealt[epoch * rows : (epoch + 1) * rows]) == [*range(rows)]


@given(
    count=st.integers(0, 500),
    speeds=st.lists(st.floats(0.01, 100), min_size=1, max_size=8),
)
def test_shares_cover_the_batch_in_order_and_follow_the_speeds(count, speeds):
    shares = deal(count, speeds)
    assert np.concatenate([np.arange(count)[share] for share in shares]).tolist() == [*range(count)]
    for share, speed in zip(shares, speeds, strict=True):
        assert abs((share.stop - share.start) - count * speed / sum(speeds)) <= 1


def test_the_order_is_the_same_on_every_machine_and_for_ever():
    assert samples_of_step(42, 10, 4, 1, 0).tolist() == [1, 8, 5, 3]


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = (samples_of_step(1, 100, 100, 2, step).tolist() for step in (0, 1))
    assert first != second
    assert first != samples_of_step(2, 100, 100, 2, 0).tolist()


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
def test_the_rate_rises_then_falls_and_no_step_is_wasted_at_zero(shape):
    rates = [
        learning_rate(1.0, shape, 100, done=done, total=1000, global_batch=10)
        for done in range(0, 1000, 10)
    ]
    peak = rates.index(max(rates))
    assert rates[0] > 0
    assert peak in (9, 10)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert (rates[-1] < 0.02) == (shape != "constant")


def test_the_rate_rises_over_a_share_of_the_run_or_over_so_many_steps():
    assert Train(warmup_ratio=0.1, global_batch=8).warmup_samples(1000) == 100
    assert Train(warmup_ratio=0.1, warmup_steps=5, global_batch=8).warmup_samples(1000) == 40
    assert Train(warmup_steps=0).warmup_samples(1000) == 0
    assert Train(warmup_steps=999, global_batch=8).warmup_samples(1000) == 1000


def test_a_run_of_one_step_learns():
    rate = learning_rate(1.0, "cosine", 0.15, done=0, total=5, global_batch=8)
    assert rate > 0.9
