"""What the doctor sends to hosts, run as it is sent: its text on standard input."""

import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import pytest

from remote.lease import hold_port
from remote.link import MAX_GUESTS, MEASURE, interfaces, owner_of
from tests.ports import unused_port

TEXT = (Path(__file__).resolve().parents[2] / "remote" / "link.py").read_bytes()
LOADER = "import sys; exec(compile(sys.stdin.buffer.read(int(sys.argv[1])), 'link', 'exec'))"
TOKEN, PROOF = "11" * 16, "22" * 16
ADDRESS = "127.0.0.1"
RANGE = [29600, 29649]


class Far:
    """The program on a host, as the coordinator talks to it."""

    def __init__(self, python: str = sys.executable) -> None:
        self.process = subprocess.Popen(
            [python, "-I", "-c", LOADER, str(len(TEXT))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(TEXT)

    def ask(self, **request: object) -> dict[str, Any]:
        return self.tell(json.dumps({"id": 1, **request}).encode())

    def tell(self, line: bytes) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert isinstance(answer, dict)
        return answer

    def open(self, ports: list[int] = RANGE) -> dict[str, Any]:
        return self.ask(op="open", address=ADDRESS, ports=ports, token=TOKEN, proof=PROOF)

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(timeout=20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def far() -> Iterator[Far]:
    program = Far()
    yield program
    program.end()


@pytest.fixture
def near() -> Iterator[Far]:
    program = Far()
    yield program
    program.end()


def old_pythons() -> list[str]:
    """The oldest Python 3.8 to 3.10 of this machine."""
    found = (shutil.which(f"python3.{minor}") for minor in (8, 9, 10))
    roots = sorted((Path(sys.base_prefix).parent).glob("3.8.*/bin/python3.8"))
    return [*map(str, roots), *filter(None, found)][:1]


def test_two_hosts_reach_and_measure_each_other(near: Far, far: Far) -> None:
    doors = far.open()
    near.open()
    assert doors["interface"] == owner_of(ADDRESS)
    assert RANGE[0] <= doors["job_port"] <= RANGE[1]
    targets = [
        {"key": name, "address": ADDRESS, "port": doors[name]} for name in ("job_port", "free_port")
    ]
    answer = near.ask(op="probe", targets=targets, timeout_s=5)
    assert [(each["key"], each["outcome"]) for each in answer["results"]] == [
        ("job_port", "ok"),
        ("free_port", "ok"),
    ]
    figures = near.ask(
        op="measure", address=ADDRESS, port=doors["free_port"], seconds=0.2, bytes=4_000_000,
        timeout_s=5,
    )  # fmt: skip
    assert 0 < figures["latency_s"] < 1
    assert figures["bytes_per_s"] > 1e6


@pytest.mark.parametrize("python", old_pythons())
def test_an_old_python_is_enough(python: str, far: Far) -> None:
    program = Far(python)
    try:
        doors = program.open()
        far.open()
        target = {"key": "k", "address": ADDRESS, "port": doors["free_port"]}
        (result,) = far.ask(op="probe", targets=[target], timeout_s=5)["results"]
        assert result["outcome"] == "ok"
    finally:
        program.end()


def test_who_lacks_the_token_is_sent_away_unanswered(far: Far) -> None:
    doors = far.open()
    for greeting in (b"\0" * 17, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""):
        with socket.create_connection((ADDRESS, doors["free_port"]), timeout=10) as stranger:
            said = b""
            with suppress(OSError):  # sent away before all was said
                stranger.sendall(greeting)
                stranger.shutdown(socket.SHUT_WR)
                while part := stranger.recv(100):
                    said += part
            assert said == b""
    with socket.create_connection((ADDRESS, doors["free_port"]), timeout=10) as peer:
        peer.sendall(bytes.fromhex(TOKEN) + MEASURE)
        assert peer.recv(16) == bytes.fromhex(PROOF)


def test_another_program_behind_a_port_is_no_peer(near: Far) -> None:
    near.open()
    assert probed_by_itself(near, lambda guest: guest.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")) == (
        "stranger",
        "something else answers there",
    )


def test_a_door_that_opens_and_then_says_nothing_or_resets_is_not_taken_for_a_stranger(
    near: Far,
) -> None:
    def reset(guest: socket.socket) -> None:
        guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    near.open()
    with socket.create_server((ADDRESS, 0)) as silent:
        target = {"key": "k", "address": ADDRESS, "port": silent.getsockname()[1]}
        (result,) = near.ask(op="probe", targets=[target], timeout_s=0.3)["results"]
    assert (result["outcome"], result["detail"]) == ("filtered", "it opens, but no answer comes")
    outcome, detail = probed_by_itself(near, reset)
    assert (outcome, detail[:26]) == ("refused", "it opens, but then: Connec")


def probed_by_itself(near: Far, serve: Callable[[socket.socket], None]) -> tuple[str, str]:
    """What a probe of a port says whose program serves one guest with `serve` and closes."""
    with socket.create_server((ADDRESS, 0)) as listener:

        def once() -> None:
            guest, _ = listener.accept()
            with guest:
                guest.recv(1)
                serve(guest)

        thread = Thread(target=once)
        thread.start()
        target = {"key": "k", "address": ADDRESS, "port": listener.getsockname()[1]}
        (result,) = near.ask(op="probe", targets=[target], timeout_s=5)["results"]
        thread.join()
    return result["outcome"], result["detail"]


def test_strangers_that_drip_do_not_keep_a_peer_out(near: Far, far: Far) -> None:
    doors = far.open()
    near.open()
    target = {"key": "k", "address": ADDRESS, "port": doors["free_port"]}
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection((ADDRESS, doors["free_port"])))
            for _ in range(MAX_GUESTS)
        ]
        over = Event()

        def drip() -> None:
            while not over.wait(0.5):
                for each in strangers:
                    with suppress(OSError):  # shown the door
                        each.send(b"x")

        thread = Thread(target=drip)
        thread.start()
        try:
            (result,) = near.ask(op="probe", targets=[target], timeout_s=4)["results"]
        finally:
            over.set()
            thread.join()
    assert result["outcome"] == "ok"


def test_without_a_file_left_it_waits_at_its_door_instead_of_spinning(near: Far, far: Far) -> None:
    doors = far.open()
    near.open()
    program = psutil.Process(far.process.pid)
    before = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (1, before[1]))
    door = (ADDRESS, doors["free_port"])
    # A waiting accept() has its file already: only the second guest finds none left.
    with socket.create_connection(door), socket.create_connection(door) as guest:
        used = sum(program.cpu_times()[:2])
        guest.settimeout(1.0)
        with pytest.raises(TimeoutError):
            guest.recv(1)
        assert sum(program.cpu_times()[:2]) - used < 0.15
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, before)
    target = {"key": "k", "address": ADDRESS, "port": doors["free_port"]}
    (result,) = near.ask(op="probe", targets=[target], timeout_s=5)["results"]
    assert result["outcome"] == "ok"


def test_a_port_where_nobody_listens_is_refused(near: Far) -> None:
    near.open()
    target = {"key": "k", "address": ADDRESS, "port": unused_port()}
    (result,) = near.ask(op="probe", targets=[target], timeout_s=5)["results"]
    assert (result["outcome"], result["source"]) == ("refused", ADDRESS)


def test_a_port_that_a_job_has_reserved_is_left_to_it(far: Far) -> None:
    port = next(port for port in range(29700, 29749) if (name := hold_port(port)) is not None)
    try:
        assert far.open([port, port])["job_port"] is None
    finally:
        os.close(name)


def test_an_address_of_another_machine_is_refused_with_the_own_ones(far: Far) -> None:
    answer = far.ask(op="open", address="192.0.2.1", ports=RANGE, token=TOKEN, proof=PROOF)
    assert "no network interface of it has 192.0.2.1" in answer["error"]


@pytest.mark.parametrize(
    "line", [b"nonsense", b"[]", b"{}", b'{"op": "open"}', b'{"token": 1, "proof": 2}', b"\xff"]
)
def test_a_request_that_makes_no_sense_is_answered_and_the_next_one_works(
    far: Far, line: bytes
) -> None:
    assert far.tell(line)["error"]
    assert far.open()["free_port"]


def test_it_ends_with_its_input_and_its_ports_are_free(far: Far) -> None:
    doors = far.open()
    assert far.end() == 0
    for name in ("job_port", "free_port"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((ADDRESS, doors[name]), timeout=5)


def test_every_interface_is_known_with_its_addresses() -> None:
    there = {
        name: {a.address for a in each if a.family == socket.AF_INET}
        for name, each in psutil.net_if_addrs().items()
    }
    found = interfaces()
    for name, addresses in there.items():
        assert addresses <= set(found[name])
    assert owner_of("127.5.5.5") == owner_of("127.0.0.1")
    assert owner_of("192.0.2.1") is None
