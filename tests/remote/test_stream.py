"""The stream of a run's files, read from a real process through real pipes."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from remote.lease import take_lock


class Reader:
    """The coordinator's end: keeps a byte-for-byte copy of every file."""

    def __init__(self, run_dir: Path, copies: dict[str, bytearray], **more: Any) -> None:
        self.copies = copies
        self.headers: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "remote.stream", str(run_dir)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin
        offsets = {name: len(copy) for name, copy in copies.items()}
        self.process.stdin.write(json.dumps({"v": 1, "offsets": offsets, **more}).encode() + b"\n")
        self.process.stdin.flush()

    def read_frame(self) -> dict[str, Any]:
        assert self.process.stdout
        header = json.loads(self.process.stdout.readline())
        if "offset" in header:
            copy = self.copies.setdefault(header["file"], bytearray())
            assert header["offset"] == len(copy), "no gap and no repeat"
            assert header["size"] <= 64 * 1024
            copy += self.process.stdout.read(header["size"])
        self.headers.append(header)
        return header

    def read_until_drained(self) -> dict[str, Any]:
        while not (frame := self.read_frame()).get("drained"):
            pass
        return frame

    def hang_up(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=5)
        self.process.stdout.close()


def test_a_copy_grows_byte_for_byte_through_cuts_while_others_write(tmp_path: Path) -> None:
    names = ["events.0.1.jsonl", "log.0.1", "log.agent.1"]
    chance = random.Random(7)
    written = {name: bytearray() for name in names}

    def write(name: str, pieces: list[bytes]) -> None:
        with (tmp_path / name).open("ab", buffering=0) as file:
            for piece in pieces:
                file.write(piece)
                written[name] += piece
                time.sleep(0.001)

    pieces = {n: [chance.randbytes(chance.randrange(1, 9000)) for _ in range(400)] for n in names}
    writers = [threading.Thread(target=write, args=(n, pieces[n])) for n in names]
    copies: dict[str, bytearray] = {}
    for writer in writers:
        writer.start()
    for _ in range(4):
        reader = Reader(tmp_path, copies)
        for _ in range(chance.randrange(1, 8)):
            reader.read_frame()
        reader.hang_up()  # what was under way is thrown away; the copies' sizes are what counts
    for writer in writers:
        writer.join()
    reader = Reader(tmp_path, copies)
    reader.read_until_drained()
    reader.hang_up()
    assert copies == written


def test_it_ends_when_stdin_closes_though_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "log.0.1").write_bytes(bytes(4 << 20))
    reader = Reader(tmp_path, {})
    reader.read_frame()
    started = time.monotonic()
    reader.hang_up()
    assert reader.process.returncode == 0
    assert time.monotonic() - started < 2


def test_it_ends_when_stdout_breaks(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {})
    reader.read_frame()
    assert reader.process.stdout
    reader.process.stdout.close()
    assert reader.process.wait(timeout=5) == 0
    assert reader.process.stdin
    reader.process.stdin.close()


def test_only_events_and_logs_are_sent(tmp_path: Path) -> None:
    (tmp_path / "log.0.1").write_bytes(b"yes")
    for name in ("run.json", "pids", "log.0.1.tmp", "events.x.1.jsonl", "log.12345.1", "xlog.0.1"):
        (tmp_path / name).write_bytes(b"no")
    (tmp_path / "log.1.1").symlink_to("/etc/hostname")
    (tmp_path / "log.2.1").mkdir()
    os.mkfifo(tmp_path / "log.3.1")
    reader = Reader(tmp_path, {})
    reader.read_until_drained()
    reader.hang_up()
    assert reader.copies == {"log.0.1": b"yes"}


def test_a_file_shorter_than_its_copy_is_said_to_be_lost(tmp_path: Path) -> None:
    (tmp_path / "log.0.1").write_bytes(b"new")
    reader = Reader(tmp_path, {"log.0.1": bytearray(b"older and longer")})
    lost = reader.read_frame()
    assert lost == {"v": 1, "file": "log.0.1", "lost": True, "size": 3}
    (tmp_path / "log.0.1").write_bytes(b"it grows beyond the size of the old copy")
    reader.read_until_drained()
    reader.read_until_drained()
    reader.hang_up()
    assert reader.copies["log.0.1"] == b"older and longer"


def test_a_flood_in_a_log_does_not_hold_back_events(tmp_path: Path) -> None:
    (tmp_path / "log.0.1").write_bytes(bytes(8 << 20))
    (tmp_path / "events.1.1.jsonl").write_bytes(bytes(100_000))
    reader = Reader(tmp_path, {})
    while len(reader.copies.get("events.1.1.jsonl", b"")) < 100_000:
        reader.read_frame()
    reader.hang_up()
    assert len(reader.copies["log.0.1"]) <= 128 * 1024


def test_new_files_are_found_and_the_last_beat_says_that_nothing_will_come(tmp_path: Path) -> None:
    lock = take_lock(tmp_path)
    assert lock is not None
    reader = Reader(tmp_path, {})
    assert reader.read_until_drained() == {"v": 1, "beat": True, "agent": True, "drained": True}
    (tmp_path / "events.agent.1.jsonl").write_bytes(b"last words\n")
    os.close(lock)
    while reader.read_until_drained()["agent"]:
        pass
    reader.hang_up()
    assert reader.copies == {"events.agent.1.jsonl": b"last words\n"}


def test_a_quiet_run_beats_at_least_every_two_seconds(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {})
    reader.read_frame()
    started = time.monotonic()
    reader.read_frame()
    assert time.monotonic() - started < 2
    reader.hang_up()


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "j-9"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "remote.stream", str(missing)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        input=b"",
        capture_output=True,
        timeout=20,
    )
    assert (done.returncode, done.stderr.decode()) == (3, f"there is no run in {missing}\n")


def test_a_stream_whose_other_end_falls_silent_without_a_goodbye_ends(tmp_path: Path) -> None:
    """As a cut cable leaves it; what it says itself goes nowhere, so nothing is read either."""
    (tmp_path / "log.0.1").write_bytes(b"x" * 1024**2)
    reader = Reader(tmp_path, {}, silence_s=2)
    assert reader.process.wait(timeout=20) == 0
    reader.hang_up()


def test_a_stream_goes_on_while_the_other_end_says_a_word_now_and_then(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {}, silence_s=5)
    began = time.monotonic()
    while time.monotonic() - began < 6:
        reader.read_frame()
        assert reader.process.stdin
        reader.process.stdin.write(b"\n")
        reader.process.stdin.flush()
    assert reader.process.poll() is None
    reader.hang_up()
