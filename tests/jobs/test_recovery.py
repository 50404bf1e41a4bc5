"""What the loss of a worker means, as decisions: who is lost, and when it may come back."""

from dataclasses import replace

import pytest

from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.records import WorkerRecord
from sollol_tui.jobs.recovery import (
    MOST_TRIES,
    STEADY_ELASTIC_S,
    STEADY_S,
    WAITS_S,
    is_hopeless,
    lighthouses_missing,
    may_try,
    tries_after_loss,
    who_is_lost,
)
from sollol_tui.jobs.sight import APART_LOST_AFTER_S, LOST_AFTER_S, STUCK_AFTER_S, Sight
from sollol_tui.model.plan import PlannedLighthouse
from sollol_tui.model.states import WorkerState
from tests.jobs.samples import plan

KILLED = Failure(host="w2", reason="rank 1: killed by SIGKILL")
GONE = Failure(host="w2", reason="its agent is gone", gone=True)
PEER = Failure(host="w1", reason="rank 0: Connection closed by peer", distance=2)
BUG = Failure(host="w2", reason="rank 1: RuntimeError", traceback="Traceback", distance=0)
FORESEEN = Failure(host="w1", reason="raise max_length", distance=0, foreseen=True)


def sight(*hosts: str) -> Sight:
    return Sight(witnesses=frozenset(hosts))


def watch(seen: Sight, seconds: float, *unseen: str, begin: float = 0.0, **steps: bool) -> float:
    """Looks four times a second; returns when that ends."""
    told = {"stepped": False, "all_step": False} | steps
    for look in range(int(seconds * 4) + 1):
        seen.look(begin + look / 4, unseen, **told)
    return begin + seconds


def test_a_host_that_others_can_see_us_without_is_lost_after_a_while() -> None:
    seen = sight("w1", "w2", "w3")
    end = watch(seen, LOST_AFTER_S - 1, "w2")
    assert seen.lost == set()
    watch(seen, 2, "w2", begin=end)
    assert seen.lost == {"w2"}


def test_a_student_who_learns_apart_may_be_out_of_sight_for_long() -> None:
    seen = replace(sight("w1", "w2"), is_apart=True)
    end = watch(seen, APART_LOST_AFTER_S - 1, "w2")
    assert seen.lost == set()
    watch(seen, 2, "w2", begin=end)
    assert seen.lost == {"w2"}


def test_one_that_comes_back_in_time_is_not_lost() -> None:
    seen = sight("w1", "w2", "w3")
    end = watch(seen, LOST_AFTER_S - 1, "w2")
    end = watch(seen, 1, begin=end)
    watch(seen, LOST_AFTER_S - 1, "w2", begin=end)
    assert seen.lost == set()


def test_when_nobody_is_seen_it_is_our_own_network() -> None:
    seen = sight("w1", "w2")
    end = watch(seen, 3600, "w1", "w2")
    assert seen.lost == set()
    watch(seen, 1, "w2", begin=end)  # w1 was quicker to be seen again
    assert seen.lost == set()


def test_a_coordinator_that_slept_takes_nobody_for_lost() -> None:
    seen = sight("w1", "w2")
    seen.look(0.0, {"w2"}, stepped=False, all_step=False)
    seen.look(3600.0, {"w2"}, stepped=False, all_step=False)
    assert seen.lost == set()
    assert not seen.is_stuck(0.0)


def test_one_that_takes_part_in_the_steps_is_there_though_we_do_not_see_it() -> None:
    seen = sight("w1", "w2")
    watch(seen, 3600, "w2", stepped=True, all_step=True)
    assert seen.lost == set()


def test_a_job_is_stuck_when_no_step_came_for_much_longer_than_they_take() -> None:
    seen = sight("w1", "w2")
    end = watch(seen, STUCK_AFTER_S + 1, "w2")
    assert (seen.is_stuck(0.1), seen.is_stuck(60.0)) == (True, False)
    watch(seen, 1, "w2", begin=end, stepped=True)
    assert not seen.is_stuck(0.1)


@pytest.mark.parametrize(
    ("failures", "has_begun", "lost"),
    [
        ([KILLED, PEER], True, {"w2"}),
        ([GONE], True, {"w2"}),
        ([BUG, PEER], True, {"w2"}),  # as the agent of an elastic rank does: it may be the machine
        ([FORESEEN, PEER], True, set()),
        ([KILLED], False, set()),
        ([BUG], False, set()),
        ([GONE, PEER], False, {"w2"}),
        ([PEER], True, {"w3"}),  # w3 is out of sight
    ],
)
def test_who_is_lost(failures: list[Failure], has_begun: bool, lost: set[str]) -> None:
    unseen = {"w1": "", "w3": "no route to host"}
    assert set(who_is_lost(failures, unseen, has_begun=has_begun)) == lost


def test_where_all_are_seen_those_who_lost_a_peer_are_launched_again() -> None:
    assert who_is_lost([PEER], {}, has_begun=True) == {"w1": PEER.reason}


def lost(tries: int = 0, tried_at: float | None = None) -> WorkerRecord:
    return WorkerRecord(
        host="w2", state=WorkerState.LOST, slots=(1,), share=0.5, environment=None, run_dir=None,
        tries=tries, tried_at=tried_at,
    )  # fmt: skip


def test_a_lost_worker_is_tried_at_once_and_then_less_and_less_often() -> None:
    assert may_try(lost(), 100.0)
    for tries, wait_s in enumerate(WAITS_S):
        assert not may_try(lost(tries, 100.0), 100.0 + wait_s - 0.1)
        assert may_try(lost(tries, 100.0), 100.0 + wait_s)


def test_a_clock_that_was_set_back_keeps_nobody_away() -> None:
    assert may_try(lost(1, 5000.0), 100.0)


def test_one_that_used_up_its_tries_is_hopeless_until_it_was_well_for_long() -> None:
    used_up = lost(MOST_TRIES, 100.0)
    assert (may_try(used_up, 1e9), is_hopeless(used_up)) == (False, True)
    for is_elastic, steady_s in ((False, STEADY_S), (True, STEADY_ELASTIC_S)):
        lost_at = 100.0 + steady_s
        assert tries_after_loss(used_up, lost_at - 1, is_elastic=is_elastic) == MOST_TRIES
        assert tries_after_loss(used_up, lost_at + 1, is_elastic=is_elastic) == 0


def missing(workers: str, lit: str, lost: str = "", *, may_change: bool = False) -> str:
    lights = (PlannedLighthouse(host=host, address="10.0.0.1", port=1) for host in lit.split())
    made = replace(plan(*workers.split()), engine="elastic", lit=tuple(lights))
    return lighthouses_missing(made, lost.split(), may_change=may_change)


@pytest.mark.parametrize(
    ("workers", "lit", "lost", "reason"),
    [
        ("w1 w2 w3", "w1 w2 w3", "", ""),
        ("w1 w2 w3", "w1 w2 w3", "w1", ""),
        ("w1 w2 w3", "w1 w2 w3", "w1 w3", ""),  # w2 is alone, and has its own
        ("w1", "w1", "", ""),
        ("w1 w2", "w1", "", "only w1 keeps a lighthouse"),
        ("w2 w3", "w1 w2", "", "only w2 keeps a lighthouse"),  # w1 has left, w3 joined
        ("w1 w2 w3", "w1 w2", "w2", "only w1 keeps a lighthouse"),
        ("w3", "w1 w2", "", "no lighthouse is left"),
        ("w1 w2 w3", "w1 w2", "w1 w2", "no lighthouse is left"),
        ("w1 w2", "w1 w2", "w1 w2", ""),  # nobody is left who could miss them
    ],
)
def test_lighthouses_are_lit_anew_before_the_loss_of_one_host_leaves_the_others_none(
    workers: str, lit: str, lost: str, reason: str
) -> None:
    assert missing(workers, lit, lost) == reason


def test_one_lighthouse_is_enough_while_somebody_comes_or_goes() -> None:
    assert missing("w2 w3", "w1 w2", may_change=True) == ""
    assert missing("w3 w4", "w1 w2", may_change=True) == "no lighthouse is left"
