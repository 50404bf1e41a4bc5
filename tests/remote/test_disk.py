"""A disk that has no room left: the run pauses and says so, and nothing on it is torn."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remote import disk, processes, remains
from remote.control import Action, read_control, write_control
from remote.events import BACKLOG_BYTES, EventWriter
from remote.lease import is_locked
from tests.loop_disk import LoopDisk, loop_disk
from tests.remote.worker import Worker, wait_until
from tests.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts small disks")
DISK_BYTES = 16 * 1024**2


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "small", DISK_BYTES) as disk:
        yield disk


@pytest.fixture
def worker(make_worker: Callable[..., Worker], small: SmallDisk) -> Worker:
    made = make_worker()
    made.run_dir = small.folder / "runs" / "j-1" / "w1"
    return made


def whole_lines(folder: Path) -> bool:
    """Whether every event is whole, and none is missing or doubled."""
    for path in folder.glob("events.*"):
        text = path.read_text()
        assert text.endswith("\n")
        assert [json.loads(line)["seq"] for line in text.splitlines()] == list(
            range(text.count("\n"))
        )
    return True


def test_a_run_pauses_before_its_disk_is_full_and_goes_on_when_there_is_room(
    worker: Worker, small: SmallDisk
) -> None:
    worker.start()
    worker.wait_for("step", "0", count=3)
    small.fill(but=512 * 1024)
    full = worker.wait_for("disk_full")
    assert full["free_bytes"] < full["needed_bytes"]
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["reason"]) == ("stopped", full["reason"])
    assert full["reason"].startswith("the disk of w1 is full: ")
    saved = worker.wait_for("checkpoint", "0")["step"]
    assert saved == worker.wait_for("stopped", "0")["step"]
    assert whole_lines(worker.run_dir)
    small.free()
    wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    worker.run["generation"] = 2
    worker.start()
    worker.wait_for("step", "0", count=len(worker.events("0")))
    again = [e for e in worker.events("0") if e["kind"] == "step" and e["generation"] == 2]
    assert again[0]["step"] == saved + 1


def test_what_a_disk_without_a_byte_delays_is_said_once_there_is_room(
    worker: Worker, small: SmallDisk
) -> None:
    worker.start()
    worker.wait_for("step", "0", count=3)
    small.fill()
    # The agent has kept a little back, so its own word gets through.
    assert worker.wait_for("disk_full")["free_bytes"] < 256 * 1024
    small.free()
    finished = worker.wait_for("agent_finished")
    assert finished["leftover_processes"] == 0
    assert whole_lines(worker.run_dir)
    steps = [e["step"] for e in worker.events("0") if e["kind"] == "step"]
    assert steps == list(range(1, steps[-1] + 1))


def test_a_run_can_be_cancelled_on_a_full_disk(worker: Worker, small: SmallDisk) -> None:
    worker.start()
    worker.wait_for("step", "0")
    small.fill()
    assert worker.agent("control", "kill")["action"] == "kill"
    wait_until(lambda: not is_locked(worker.run_dir), "the agent has left")
    assert worker.agent("inspect")["processes"] == []


def test_the_last_word_is_written_over_the_one_before_where_there_is_no_room(
    small: SmallDisk,
) -> None:
    write_control(small.folder, Action.RUN)
    small.fill()
    for action in (Action.STOP, Action.LEAVE, Action.KILL):
        write_control(small.folder, action)
        assert read_control(small.folder) is action


def test_lines_wait_for_room_and_the_oldest_are_kept(small: SmallDisk) -> None:
    path = small.folder / "events.0.1.jsonl"
    events = EventWriter(path, job="j", host="w1", slot=0, attempt=1, generation=1)
    events.emit("step", step=1)
    small.fill()
    size = 1000
    for step in range(2, 3 * BACKLOG_BYTES // size):
        events.emit("step", step=step, filler="x" * size)
    assert not events.catch_up()
    small.free()
    assert events.catch_up()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == list(range(1, len(steps) + 1))
    assert BACKLOG_BYTES < path.stat().st_size < 2 * BACKLOG_BYTES
    events.close()


def test_a_process_that_could_not_be_recorded_tears_no_line(small: SmallDisk) -> None:
    own = processes.identify(os.getpid())
    assert own is not None
    assert remains.record(small.folder, own, "agent")
    page = os.sysconf("SC_PAGE_SIZE")
    pids = small.folder / remains.FILE
    small.fill()
    while remains.record(small.folder, own, "descendant"):
        assert pids.stat().st_size < 2 * page  # the page that it has runs out
    small.free()
    assert remains.record(small.folder, own, "rank.0")
    lines = pids.read_text().splitlines()
    assert {identity for identity, _ in remains.recorded(small.folder)} == {own}
    assert len(remains.recorded(small.folder)) == len(lines)


def test_a_log_loses_lines_and_not_its_writer(small: SmallDisk) -> None:
    log = small.folder / "log.0.1"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stream = disk.patient_stream(descriptor)
    print("before", file=stream)
    small.fill()
    for _ in range(100):
        print("lost " * 100, file=stream, flush=True)
    small.free()
    print("after", file=stream)
    stream.close()
    os.close(descriptor)
    said = log.read_text().splitlines()
    assert (said[0], said[-1].endswith("after")) == ("before", True)


def test_enough_is_one_more_checkpoint_and_some(small: SmallDisk) -> None:
    room = disk.Room(small.folder)
    assert room.shortage() is None
    assert DISK_BYTES - small.free_bytes >= disk.RESERVE_BYTES
    checkpoint = small.folder / "checkpoints" / "checkpoint-10"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizer.pt").write_bytes(b"x" * 7 * 1024**2)
    assert room.shortage() is None
    small.fill(but=7 * 1024**2)
    free, needed = room.shortage() or (0, 0)
    assert free < needed == int(DISK_BYTES * disk.LEAST_PART) + 7 * 1024**2
    room.give()
    room.give()
    assert not (small.folder / disk.RESERVE).exists()


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[LoopDisk]:
    with loop_disk(tmp_path, DISK_BYTES) as disk:
        yield disk


@pytest.mark.parametrize("fault", [LoopDisk.becomes_read_only, LoopDisk.fails])
def test_a_run_whose_disk_gives_out_ends_and_every_refusal_says_what_to_do(
    make_worker: Callable[..., Worker], failing: LoopDisk, fault: Callable[[LoopDisk], None]
) -> None:
    worker = make_worker()
    worker.run_dir = failing.folder / "runs" / "j-1" / "w1"
    worker.start()
    worker.wait_for("step", "0", count=3)
    ran = [remnant.identity for remnant in worker.remnants()]
    fault(failing)
    wait_until(lambda: not any(map(processes.is_alive, ran)), "nothing of the run is left")
    refused = worker.refused()
    sentence = (
        "Read-only file system" if fault is LoopDisk.becomes_read_only else "Input/output error"
    )
    assert f"{worker.run_dir}: {sentence}; `dmesg` there says why" in refused
    with worker.begin("remote.stream", str(worker.run_dir)) as streaming:
        assert streaming.stdin is not None
        assert streaming.stdout is not None
        assert streaming.stderr is not None
        streaming.stdin.write('{"v": 1, "offsets": {}}\n')
        streaming.stdin.flush()
        if fault is LoopDisk.fails:
            assert "the run can no longer be read: " in (complaint := streaming.stderr.read())
            assert "`dmesg` there says why" in complaint
            return
        heard = ""  # what it said, and that it is over
        while not ('"kind":"step"' in heard and '"drained": true' in heard):
            heard += (line := streaming.stdout.readline())
            assert line, heard + streaming.stderr.read()
        assert '"agent": false' in heard
    assert worker.agent("clean")["processes"] == []
