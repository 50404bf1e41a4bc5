"""How fast ranks are and where a step's time goes, by a clock of the test's own."""

from typing import Any

import pytest

from remote.engine import Members
from remote.engine.shares import NEWEST
from remote.run import Rank
from remote.speed import TELL_EVERY_S, Speeds, Spent, line_of, newest


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def members(*hosts: str, weights: tuple[float, ...] = (), own: int = 0) -> Members:
    ranks = tuple(
        Rank(slot=slot, rank=slot, host=host, address="127.0.0.1", gpu=None)
        for slot, host in enumerate(hosts)
    )
    return Members(ranks=ranks, own=ranks[own], weights=weights or (1.0,) * len(ranks))


def spent(*speeds: float, whole_s: float = 10.0, until_summed_s: float = 1.0) -> Spent:
    return Spent(samples=40, whole_s=whole_s, until_summed_s=until_summed_s, speeds=speeds)


def told_of(speeds: Speeds, crew: Members, step: Spent) -> dict[str, Any]:
    """What is told at the end of three such steps, the first of which is none to measure."""
    assert [speeds.add(crew, step, last=False) for _ in range(2)] == [None, None]
    said = speeds.add(crew, step, last=True)
    assert said is not None
    return said


def test_the_slowest_is_named_and_what_the_others_lose_by_it() -> None:
    """20 samples each: 5 s at 4 a second, 10 s at 2; the sum is there 6 s after the first is done,
    of which it waited 5."""
    crew = members("fast", "slow")
    said = told_of(Speeds(100), crew, spent(4.0, 2.0, whole_s=11.0, until_summed_s=6.0))
    assert (said["slowest_host"], said["slowest_slot"]) == ("slow", 1)
    assert said["waiting_s"] == pytest.approx(2.5)  # 5 s by one of two
    assert said["adding_s"] == pytest.approx(1.0)
    assert said["samples_per_s"] == pytest.approx(40 / 11, abs=1e-4)
    assert said["best_host"] == "fast"
    assert said["speedup"] == pytest.approx(40 / 11 / 4, abs=1e-4)
    assert said["efficiency"] == pytest.approx(40 / 11 / 6, abs=1e-4)


def test_the_ranks_of_a_host_are_one_machine() -> None:
    said = told_of(Speeds(1), members("two", "two", "one"), spent(3.0, 3.0, 5.0))
    assert said["best_host"] == "two"
    assert said["speedup"] == pytest.approx(4 / 6, abs=1e-4)


def test_one_rank_has_nobody_to_wait_for() -> None:
    said = told_of(Speeds(1), members("alone"), spent(4.0, until_summed_s=0.0))
    assert (said["slowest_host"], said["adding_s"], said["waiting_s"]) == ("", 0.0, 0.0)
    assert line_of(said) == "speed: 4 smp/s"


def test_speeds_are_those_of_the_steps_and_not_their_moving_average() -> None:
    before, after = [2.0], [(1 - NEWEST) * 2.0 + NEWEST * 10.0]
    assert newest(before, after) == pytest.approx([10.0])
    assert newest([], after) == after  # nothing to compare with
    assert newest([0.0], [3.0]) == [3.0]  # nothing was measured then


def test_it_is_told_now_and_then_and_anew_when_members_change() -> None:
    clock = Clock()
    speeds = Speeds(1, clock)
    two, one = members("a", "b"), members("a")
    step = spent(4.0, 4.0)
    assert [speeds.add(two, step, last=False) for _ in range(5)] == [None] * 5
    clock.now = TELL_EVERY_S
    said = speeds.add(two, step, last=False)
    assert said is not None
    assert said["steps"] == 5
    assert speeds.add(one, spent(4.0), last=False) is None
    clock.now = 2 * TELL_EVERY_S
    assert speeds.add(one, spent(4.0), last=False) is None  # one step says little
    said = speeds.add(one, spent(4.0), last=False)
    assert said is not None
    assert [rank["slot"] for rank in said["ranks"]] == [0]


def test_a_rank_without_samples_divides_nothing_by_zero() -> None:
    crew = members("a", "b", weights=(1.0, 0.0))
    said = told_of(Speeds(1), crew, spent(4.0, 0.0))
    assert [rank["share"] for rank in said["ranks"]] == [1.0, 0.0]
