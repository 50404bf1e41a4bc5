"""Slow is told from stuck, and who is stuck is named, asked where it stands, and ended."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from remote.ending import dumped_stack
from remote.pulse import Attention, Beat, Doing, Pulse, Stall, read_pulse
from tests.remote.worker import Worker, wait_until

MakeWorker = Callable[..., Worker]
BEAT = Beat(pid=1, step=40, taken=20, median_s=4.0, doing=Doing.COMPUTING)
LOOKS_S = 1.0


def looks(
    attention: Attention,
    beat: Beat,
    seconds: int,
    start: float = 0.0,
    stopped: tuple[int, ...] = (),
) -> list[tuple[float, Stall]]:
    """What is told while a rank says the same for some time, with the moment."""
    told = []
    for second in range(seconds + 1):
        now = start + second * LOOKS_S
        told += [(now, stall) for stall in attention.look({0: beat}, now, stopped)]
    return told


def test_a_rank_is_named_after_five_median_steps_and_given_up_after_twenty() -> None:
    told = looks(Attention(longest_look_s=2), BEAT, 200)
    assert [(now, stall.is_hopeless) for now, stall in told] == [(21, False), (81, True)]
    quick = looks(Attention(longest_look_s=2), replace(BEAT, median_s=0.1), 200)
    assert [now for now, _ in quick] == [11, 61]  # a few quick steps late is no news


def test_where_steps_compile_their_code_more_is_waited_for() -> None:
    patient = Attention(longest_look_s=2, ended_after_s=600)
    assert [now for now, _ in looks(patient, BEAT, 700)] == [21, 601]


def test_a_rank_that_waits_for_others_is_named_and_never_given_up() -> None:
    waiting = replace(BEAT, doing=Doing.WAITING)
    assert [s.is_hopeless for _, s in looks(Attention(longest_look_s=2), waiting, 200)] == [False]
    stopped = looks(Attention(longest_look_s=2), waiting, 200, stopped=(0,))
    assert [s.is_hopeless for _, s in stopped] == [False, True]


def test_nobody_is_judged_before_it_is_known_how_long_a_step_takes() -> None:
    assert looks(Attention(longest_look_s=2), replace(BEAT, taken=4), 500) == []


def test_work_beside_the_steps_may_take_its_time() -> None:
    apart = replace(BEAT, doing=Doing.APART)
    assert looks(Attention(longest_look_s=2), apart, 500) == []
    stopped = looks(Attention(longest_look_s=2), apart, 200, stopped=(0,))
    assert [s.is_hopeless for _, s in stopped] == [False, True]


def test_the_agents_own_pause_is_not_the_ranks() -> None:
    attention = Attention(longest_look_s=2)
    assert attention.look({0: BEAT}, 0) == []
    assert attention.look({0: BEAT}, 3600) == []  # the host slept for an hour
    assert attention.look({0: BEAT}, 3601) == []


def test_a_rank_that_goes_on_again_is_told_once() -> None:
    attention = Attention(longest_look_s=2)
    assert len(looks(attention, BEAT, 30)) == 1
    moved = replace(BEAT, step=41, taken=21)
    told = looks(attention, moved, 5, start=31)
    assert [(stall.is_over, stall.seconds) for _, stall in told] == [(True, 30)]


def test_a_started_rank_is_another_one() -> None:
    attention = Attention(longest_look_s=2)
    looks(attention, BEAT, 30)
    assert looks(attention, replace(BEAT, pid=2, taken=6), 15, start=31) == []


def test_a_rank_says_how_long_its_steps_take(tmp_path: Path) -> None:
    assert read_pulse(tmp_path, 3, 1) is None
    pulse = Pulse(tmp_path, 3, 1)
    for step in range(100, 140):
        pulse.begin_step()
        pulse.now(Doing.COMPUTING)
        pulse.took(step)
    said = read_pulse(tmp_path, 3, 1)
    assert said is not None
    assert (said.pid, said.step, said.taken, said.doing) == (os.getpid(), 139, 40, Doing.APART)
    assert 0 < said.median_s < 1
    (tmp_path / "tmp" / "pulse.3.2").write_bytes(b"no pulse")
    assert read_pulse(tmp_path, 3, 2) is None


def test_the_stack_is_what_came_since_it_was_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log.0.1"
    old = 'Current thread 0x01 (most recent call first):\n  File "a.py", line 1 in old\n'
    log.write_text(f"step 1\n{old}")
    asked_at = log.stat().st_size
    assert dumped_stack(log, asked_at) is None
    new = (
        'Thread 0x02 (most recent call first):\n  File "b.py", line 2 in wait\n\n'
        'Current thread 0x01 (most recent call first):\n  File "c.py", line 3 in main\n'
    )
    log.write_text(f"step 1\n{old}step 2\n{new}step 3\n")
    assert dumped_stack(log, asked_at) == new.rstrip()


def impatient(worker: Worker) -> Worker:
    worker.shorten("pulse", "NAMED_AFTER_S", 10.0, 1.0)
    worker.shorten("pulse", "ENDED_AFTER_S", 60.0, 4.0)
    return worker


def test_a_stuck_rank_is_named_with_its_stack_and_then_ended(make_worker: MakeWorker) -> None:
    worker = impatient(make_worker(SOLLOL_STUB_HANGS_AT="9"))
    worker.start()
    stuck = worker.wait_for("stuck")
    assert (stuck["of_slot"], stuck["step"]) == (0, 8)
    assert 'remote/train.py", line' in stuck["stack"]
    assert "in hang" in stuck["stack"]
    assert "s after step 8, where one takes 0.0" in stuck["reason"]
    assert stuck["reason"].endswith(" s; it computes")
    finished = worker.wait_for("agent_finished")
    exited = worker.wait_for("rank_exited")
    assert (exited["problem"], finished["problem"]) == ("stuck", "stuck")
    assert exited["reason"].startswith("stuck: no step for ")
    assert (finished["outcome"], finished["leftover_processes"]) == ("failed", 0)


def test_a_stuck_rank_of_an_elastic_run_is_started_again(make_worker: MakeWorker) -> None:
    worker = impatient(make_worker(SOLLOL_STUB_HANGS_AT="9"))
    worker.run["engine"] = "elastic"
    worker.run["lighthouses"] = [{"host": "w2", "address": "127.0.0.1", "port": 1}]
    worker.start()
    again = worker.wait_for("rank_started", count=2)
    assert again["of_attempt"] == 2
    assert worker.wait_for("rank_exited")["problem"] == "stuck"
    worker.wait_for("stuck", count=2)  # it is looked after like the first one
    worker.agent("control", "kill")
    assert worker.wait_for("agent_finished")["outcome"] == "killed"


def test_of_two_ranks_the_stopped_one_is_to_blame_and_may_go_on(make_worker: MakeWorker) -> None:
    worker = make_worker(ranks=2)
    worker.shorten("pulse", "NAMED_AFTER_S", 10.0, 1.0)
    worker.start()
    worker.wait_for("step", "0", count=10)
    pulse = wait_until(lambda: read_pulse(worker.run_dir, 1, 1), "slot 1 has begun")
    os.kill(pulse.pid, signal.SIGSTOP)
    stuck, waiting = worker.wait_for("stuck"), worker.wait_for("waiting")
    assert (stuck["of_slot"], waiting["of_slot"]) == (1, 0)
    assert stuck["reason"].endswith("; a signal has stopped it")
    assert waiting["reason"].endswith("; it waits for the other ranks")
    assert stuck["stack"] is None
    assert "in agree" in waiting["stack"]
    os.kill(pulse.pid, signal.SIGCONT)
    worker.wait_for("unstuck", count=2)
    worker.agent("control", "stop")
    assert worker.wait_for("agent_finished")["outcome"] == "stopped"


@pytest.mark.parametrize("ending", ["", "Fatal Python error: Aborted\n"])
def test_a_log_without_a_stack_has_none(tmp_path: Path, ending: str) -> None:
    (tmp_path / "log").write_text(f"step 1\n{ending}")
    assert dumped_stack(tmp_path / "log", 0) is None
    assert dumped_stack(tmp_path / "missing", 0) is None
