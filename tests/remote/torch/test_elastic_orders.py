"""Ranks that are asked to leave, that wait for what may never come, or that take long to load."""

import signal
import time
from itertools import pairwise

import pytest

from remote.control import Action
from remote.engine.lighthouse import DEAD_AFTER_MS
from tests.remote.torch.elastic_world import ElasticWorld, frozen, run_of
from tests.remote.torch.test_elastic import _share

FORGOTTEN_S = DEAD_AFTER_MS / 1000


@pytest.mark.parametrize(("slots", "leaver"), [(2, 0), (2, 1), (3, 0)])
def test_who_leaves_is_not_waited_for_and_may_come_again(tmp_path, slots, leaver):
    others = [slot for slot in range(slots) if slot != leaver]
    with ElasticWorld(tmp_path, slots) as world:
        world.start(*range(slots))
        world.reach(5, *range(slots))
        world.order(leaver, Action.LEAVE)
        world.until("it has left", lambda: world.told(leaver, "leave"))
        left_at = world.told(leaver, "leave")[0]["step"]
        world.reach(left_at + 5, *others)
        lost = [told["reason"] for slot in others for told in world.told(slot, "lost")]
        assert not any(f"slot {leaver})" in why.partition("broke off")[2] for why in lost), lost
        world.order(leaver, Action.RUN)
        world.start(leaver)
        everybody = list(range(slots))
        world.until("all share a step", lambda: _share(world, others[0], everybody, left_at + 5))
        world.finish(*everybody)
        world.check(*everybody)


def test_who_leaves_does_not_hold_the_others_until_its_beats_are_forgotten(tmp_path):
    with ElasticWorld(tmp_path, 3) as world:
        world.start(0, 1, 2)
        world.reach(5, 0, 1, 2)
        pauses = []
        for slot in (2, 0, 1):
            if pauses and pauses[-1] < FORGOTTEN_S / 2:
                break  # else a busy machine may have held them up
            others = [other for other in range(3) if other != slot]
            pauses.append(_pause_of_a_leave(world, slot, others))
            world.order(slot, Action.RUN)
            world.start(slot)
            after = world.step_of(others[0])
            world.until("all", lambda: _share(world, others[0], [0, 1, 2], after))  # noqa: B023
        assert pauses[-1] < FORGOTTEN_S / 2, pauses
        world.finish(0, 1, 2)
        world.check(0, 1, 2)
        assert not any(world.told(slot, "lost") for slot in range(3))


def _pause_of_a_leave(world, slot, others):
    asked_at = time.monotonic()
    world.order(slot, Action.LEAVE)
    before = len(world.told(slot, "leave"))
    world.until("it has left", lambda: len(world.told(slot, "leave")) > before)
    left_at = world.told(slot, "leave")[-1]["t"]
    world.until(
        "past what the usual lighthouse takes",
        lambda: world.told(others[0], "committed")[-1]["t"] > left_at + 2 * FORGOTTEN_S,
    )
    commits = [line["t"] for line in world.told(others[0], "committed")]
    return max(later - at for at, later in pairwise(commits) if later > asked_at)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_who_keeps_the_sidelight_may_be_lost_while_the_others_ask_there(tmp_path, end):
    with ElasticWorld(tmp_path, 4) as world:
        world.start(0, 1, 2, 3)
        world.reach(5, 0, 1, 2, 3)
        world.order(3, Action.LEAVE)
        world.until("it has left", lambda: world.told(3, "leave"))
        world.signal(0, end)
        after = world.step_of(1)
        world.until("the two go on", lambda: _share(world, 1, [1, 2], after))
        world.reach(after + 5, 1, 2)
        world.finish(1, 2)
        world.check(1, 2)


def test_members_may_leave_one_after_the_other_until_one_is_left_which_stays(tmp_path):
    with ElasticWorld(tmp_path, 3) as world:
        world.start(0, 1, 2)
        world.reach(5, 0, 1, 2)
        for slot in (0, 2):
            world.order(slot, Action.LEAVE)
            world.until("it has left", lambda slot=slot: world.told(slot, "leave"))
        alone = world.step_of(1)
        world.order(1, Action.LEAVE)
        world.reach(alone + 10, 1)
        world.finish(1)
        world.check(0, 1, 2)
        assert not world.told(1, "leave")


def test_a_minority_that_waits_obeys_a_stop_at_once_and_keeps_its_state(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        with frozen(world, 0):
            world.until("slot 1 waits", lambda: world.told(1, "notice"))
            world.order(1, Action.STOP)
            world.until("it has stopped", lambda: world.told(1, "stop"))
        assert world.told(1, "stop")[0]["step"] >= 5
        world.check(1)


def test_a_rank_without_a_lighthouse_obeys_a_stop(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        world.lights[0].kill()
        for slot in (0, 1):
            world.order(slot, Action.STOP)
        world.until("both stopped", lambda: world.told(0, "stop") and world.told(1, "stop"))
        world.check(0, 1)


@pytest.mark.parametrize("order", [Action.STOP, Action.KILL])
def test_the_last_one_obeys_when_the_host_of_the_only_lighthouse_lost_its_power(tmp_path, order):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        world.kill(0)
        world.darken(0)
        world.until("slot 1 hears nothing", lambda: _passes_over(world, 1))
        at = world.step_of(1)
        asked = time.monotonic()
        world.order(1, order)
        [told] = world.until("it has obeyed", lambda: world.told(1, order))
        assert told["step"] == at
        assert told["t"] - asked < 4  # 2 s of patience; a try to connect takes 1 s
        world.check(1)


def _passes_over(world, slot):
    return any("is passed over" in line["message"] for line in world.told(slot, "notice"))


def test_a_rank_obeys_a_kill_while_another_computes(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0)
        world.start(1, step_s=30.0)
        world.until("the first step begins", lambda: world.told(0, "settled"))
        world.order(0, Action.KILL)
        world.until("it has left", lambda: world.told(0, "kill"))


def test_a_rank_obeys_a_stop_before_the_start(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0)
        world.until("it has begun", lambda: world.told(0, "begun"))
        world.order(0, Action.STOP)
        world.until("it has stopped", lambda: world.told(0, "stop"))


def test_a_slow_loader_is_waited_for_longer_than_a_silent_one(tmp_path):
    with ElasticWorld(tmp_path, 2, lighthouses=2, start_timeout_s=1.5) as world:
        world.start(1, loads=2.0)
        world.until("it loads", lambda: world.told(1, "begun"))
        world.start(0)
        begun = world.until("slot 0 waits", lambda: world.told(0, "begun"))[0]["t"]
        world.until("longer than the limit", lambda: time.monotonic() - begun > 4)
        (tmp_path / "ready.1").touch()
        world.reach(5, 0, 1)
        world.finish(0, 1)
        world.check(0, 1)


def test_only_who_is_silent_is_named(tmp_path):
    with ElasticWorld(tmp_path, 3, start_timeout_s=1.5) as world:
        world.start(1, loads=2.0)
        world.until("it loads", lambda: world.told(1, "begun"))
        world.start(0)
        failed = world.until("slot 0 gives up", lambda: world.told(0, "failed"))[0]
        assert "1 of 3 ranks were silent for 1.5 s: w3 (slot 2, 127.0.0.1)" in failed["error"]


def test_who_loads_holds_up_nobody(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        world.start(2, run=run_of(3), loads=0.2)
        begun = world.until("it loads", lambda: world.told(2, "begun"))[0]["t"]
        world.until("for a while", lambda: time.monotonic() - begun > 3)
        world.kill(1)
        assert world.gap(0, time.monotonic()) < 10  # the lighthouse would give it 60 s
        world.start(1)
        (tmp_path / "ready.2").touch()
        world.until("the third shares a step", lambda: _share(world, 2, [0, 1, 2]))
        world.finish(0, 1, 2)
        world.check(0, 1, 2)
