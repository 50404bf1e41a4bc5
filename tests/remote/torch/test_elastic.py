"""Ranks that die, freeze, come and go: what they commit is what one process would have computed."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from remote.engine.lookout import SILENT_S
from tests.remote.torch.elastic_world import ElasticWorld, frozen, run_of


@pytest.fixture
def tell_figure(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Shows a measured figure to whoever watches; nothing is asserted of it on a loaded machine."""

    def tell(figure: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n    {figure}\n")

    return tell


@pytest.mark.parametrize("slots", [1, 2, 3, 4])
def test_the_sums_are_those_of_one_process(tmp_path, slots):
    with ElasticWorld(tmp_path, slots) as world:
        world.start(*range(slots))
        world.reach(8, *range(slots))
        world.finish(*range(slots))
        world.check(*range(slots))


def test_a_killed_member_costs_one_step_and_no_committed_one(tmp_path, tell_figure):
    with ElasticWorld(tmp_path, 3) as world:
        world.start(0, 1, 2)
        world.reach(8, 0, 1, 2)
        world.kill(1)
        killed_at = time.monotonic()
        gaps = [world.gap(slot, killed_at) for slot in (0, 2)]
        world.finish(0, 2)
        world.check(0, 2)
        tell_figure(f"after kill -9: {max(gaps):.2f} s to the next commit, steps of 0.03 s")
        assert world.told(0, "lost")


def test_a_new_process_of_a_killed_rank_is_healed_and_the_others_do_not_restart(tmp_path):
    with ElasticWorld(tmp_path, 3) as world:
        world.start(0, 1, 2)
        world.reach(5, 0, 1, 2)
        world.kill(0)
        world.reach(world.step_of(1) + 3, 1, 2)
        began = world.step_of(1)
        world.start(0)
        world.until("all three share a step", lambda: _share(world, 1, [0, 1, 2], after=began))
        world.finish(0, 1, 2)
        world.check(0, 1, 2)
        notices = [line["message"] for line in world.told(0, "notice")]
        assert any("took over the weights of step" in message for message in notices)
        assert world.launches == {0: 2, 1: 1, 2: 1}


def test_a_slot_that_was_not_planned_joins_a_running_job(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        world.start(2, run=run_of(3))
        world.until("the third shares a step", lambda: _share(world, 2, [0, 1, 2]))
        world.finish(0, 1, 2)
        world.check(0, 1, 2)


def test_other_weights_at_the_same_step_are_found_and_healed_each_time(tmp_path):
    with ElasticWorld(tmp_path, 3) as world:
        world.start(0, 1, 2)
        world.reach(5, 0, 1, 2)
        for times in (1, 2):  # in one and the same group
            (tmp_path / "spoil.2").touch()
            world.until("slot 2 is healed", lambda times=times: _times_healed(world, 2) == times)
        assert not any(world.told(slot, "lost") for slot in (0, 1, 2))
        world.finish(0, 1, 2)
        world.check(0, 1, 2)


def test_a_minority_never_commits_and_heals_when_the_others_are_back(tmp_path):
    with ElasticWorld(tmp_path, 3) as world:
        world.start(0, 1, 2)
        world.reach(5, 0, 1, 2)
        with frozen(world, 0), frozen(world, 1):
            world.until(
                "slot 2 waits for the others",
                lambda: any("not enough" in line["message"] for line in world.told(2, "notice")),
            )
            waiting_at = world.step_of(2)
        world.until("all three share a step", lambda: _share(world, 2, [0, 1, 2], waiting_at))
        world.finish(0, 1, 2)
        world.check(0, 1, 2)
        waited = [line for line in world.told(2, "settled") if line["slots"] == [2]]
        assert waited == []


def test_of_two_the_lower_slot_goes_on_and_the_other_waits(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        with frozen(world, 0):
            world.until(
                "slot 1 waits",
                lambda: any("w1 (slot 0" in line["message"] for line in world.told(1, "notice")),
            )
        world.reach(world.step_of(0) + 3, 0, 1)
        with frozen(world, 1):
            world.until("slot 0 goes on alone", lambda: _share(world, 0, [0]))
            world.reach(world.step_of(0) + 3, 0)
        world.until("both again", lambda: _share(world, 1, [0, 1], world.step_of(0)))
        world.finish(0, 1)
        world.check(0, 1)


def _waits(world, slot):
    return [
        line for line in world.told(slot, "notice") if "not enough to commit" in line["message"]
    ]


def test_a_waiting_rank_is_released_by_a_higher_generation_and_the_old_one_starts_over(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        with frozen(world, 0):
            world.until("slot 1 waits", lambda: _waits(world, 1))
            _write_run(world, 1, generation=2)
            released_from = world.step_of(1)
            world.reach(released_from + 5, 1)
        world.until("both share a step", lambda: _share(world, 0, [0, 1], released_from + 5))
        world.finish(0, 1)
        world.check(0, 1)
        notices = [line["message"] for line in world.told(0, "notice")]
        assert any("generation 2 has begun without slot 0" in message for message in notices)


def test_a_frozen_member_is_left_behind_and_healed_when_it_thaws(tmp_path, tell_figure):
    with ElasticWorld(tmp_path, 3) as world:
        world.start(0, 1, 2)
        world.reach(5, 0, 1, 2)
        with frozen(world, 0):
            frozen_at = time.monotonic()
            gap = max(world.gap(slot, frozen_at) for slot in (1, 2))
            tell_figure(f"after SIGSTOP of slot 0: {gap:.2f} s to the next commit")
            behind = world.step_of(1) + 5
            world.reach(behind, 1, 2)
        thawed_at = time.monotonic()
        world.until("slot 0 is back", lambda: _share(world, 0, [0, 1, 2], behind))
        stall = world.gap(1, thawed_at)
        tell_figure(f"after its return: {stall:.2f} s to the others' next commit")
        world.finish(0, 1, 2)
        world.check(0, 1, 2)


def test_the_next_lighthouse_takes_over_from_a_killed_one(tmp_path, tell_figure):
    with ElasticWorld(tmp_path, 3, lighthouses=3) as world:
        world.start(0, 1, 2)
        world.reach(5, 0, 1, 2)
        world.lights[0].kill()
        killed_at = time.monotonic()
        world.until("past the lighthouse", lambda: world.told(0, "notice"))
        gap = max(world.gap(slot, killed_at + 0.1) for slot in range(3))
        tell_figure(f"after the lighthouse's kill -9: {gap:.2f} s to the next commit")
        world.finish(0, 1, 2)
        world.check(0, 1, 2)


def test_a_silent_lighthouse_is_passed_over_after_a_while(tmp_path, tell_figure):
    with ElasticWorld(tmp_path, 2, lighthouses=2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        os.kill(world.lights[0].pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        gap = max(world.gap(slot, stopped_at + 0.1) for slot in range(2))
        tell_figure(f"after the lighthouse's SIGSTOP: {gap:.2f} s to the next commit")
        os.kill(world.lights[0].pid, signal.SIGCONT)
        world.finish(0, 1)
        world.check(0, 1)
        assert gap > SILENT_S / 2


def test_a_crash_of_the_lighthouses_host_takes_its_rank_along(tmp_path, tell_figure):
    with ElasticWorld(tmp_path, 3, lighthouses=3) as world:
        world.start(0, 1, 2)
        world.reach(5, 0, 1, 2)
        world.lights[0].kill()
        world.kill(0)
        killed_at = time.monotonic()
        gap = max(world.gap(slot, killed_at) for slot in (1, 2))
        tell_figure(f"after slot 0 and its lighthouse died: {gap:.2f} s to the next commit")
        world.finish(1, 2)
        world.check(1, 2)


def test_a_planned_rank_that_never_comes_is_named(tmp_path):
    with ElasticWorld(tmp_path, 3, start_timeout_s=1.0) as world:
        world.start(0, 2, loads=0.1)
        world.until("both load", lambda: world.told(0, "begun") and world.told(2, "begun"))
        for slot in (0, 2):  # who has just been loading is not silent, however late it joins
            (tmp_path / f"ready.{slot}").touch()
        world.until("both give up", lambda: world.told(0, "failed") and world.told(2, "failed"))
        error = world.told(0, "failed")[0]["error"]
        assert "1 of 3 ranks were silent for 1 s: w2 (slot 1, 127.0.0.1)" in error
        assert not world.told(0, "settled")


def test_ranks_with_other_data_are_refused_by_name(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0)
        world.start(1, rows="61")
        world.until("both refuse", lambda: world.told(0, "failed") and world.told(1, "failed"))
        for slot in (0, 1):
            assert (
                "w2 (slot 1) has other rows than w1 (slot 0): 61 against 60"
                in (world.told(slot, "failed")[0]["error"])
            )


def test_a_joiner_with_other_data_leaves_and_the_others_go_on(tmp_path):
    with ElasticWorld(tmp_path, 2) as world:
        world.start(0, 1)
        world.reach(5, 0, 1)
        world.start(2, run=run_of(3), rows="61")
        world.until("it refuses", lambda: world.told(2, "failed"))
        world.reach(world.step_of(0) + 3, 0, 1)
        world.finish(0, 1)
        world.check(0, 1)


def _share(world: ElasticWorld, slot: int, slots: list[int], after: int = -1) -> bool:
    return any(
        line["slots"] == slots and line["step"] > after for line in world.told(slot, "settled")
    )


def _times_healed(world: ElasticWorld, slot: int) -> int:
    return sum("took over" in line["message"] for line in world.told(slot, "notice"))


def _write_run(world: ElasticWorld, slot: int, generation: int) -> None:
    run = replace(run_of(2, generation=generation), host=f"w{slot + 1}")
    content = {
        "v": 1,
        "job": run.job,
        "host": run.host,
        "generation": generation,
        "engine": run.engine,
        "world": [
            {"slot": r.slot, "rank": 0, "host": r.host, "address": r.address, "gpu": None}
            for r in run.world
            if r.slot == slot
        ],
        "lighthouses": [asdict(light) for light in world.lighthouses],
        "main_port": 0,
        "model": "",
        "dataset": "",
        "train": {},
    }
    (world.folder / run.host / "run.json").write_text(json.dumps(content))
