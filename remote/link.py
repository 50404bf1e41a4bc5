"""What two hosts can do for each other over TCP: listens, connects, measures; says which network
interface owns an address. Serves nobody who lacks this check's token, and ends with its input.

Standard library only, Python 3.8 or newer: it arrives on standard input, before anything is there.
Each line it reads is a request, each it prints the answer; docs/architecture.md has their form.
"""

from __future__ import annotations

import array
import errno
import fcntl
import hmac
import json
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

VERSION = 1
LIFE_S = 1800.0  # the longest check; a coordinator that vanished leaves no listener behind
HANDSHAKE_S = 2.0  # all of it; shorter than a peer's patience, whoever stands before it
ACCEPT_AGAIN_S = 0.1  # after a refusal of the kernel, which says nothing when it is over
STALL_S = 3.0  # no byte for so long: what is under way does not arrive
SETTLE_S = 0.25  # a connection finds its pace, and a shaper gives away its first bytes
ROUND_TRIPS = 21
MAX_REQUEST = 4 * 1024 * 1024
MAX_TARGETS = 512
MAX_GUESTS = 64
MAX_SECONDS, MAX_BYTES = 5.0, 1024**3
PROBE, MEASURE = b"p", b"m"
_ORDER = struct.Struct("!dQ")
_REPORT = struct.Struct("!Qd")
_SIOCGIFCONF = 0x8912
_Socket = socket.socket


def interfaces() -> dict[str, list[str]]:
    """The addresses of each network interface (man 7 netdevice; /proc/net/if_inet6)."""
    found: dict[str, list[str]] = {name: [] for _, name in socket.if_nameindex()}
    size = 40 if struct.calcsize("P") == 8 else 32
    buffer = array.array("B", bytes(size * 1024))
    with _Socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        where, length = buffer.buffer_info()
        answer = fcntl.ioctl(asked, _SIOCGIFCONF, struct.pack("iP", length, where))
    used = struct.unpack("iP", answer)[0]
    data = buffer.tobytes()
    for at in range(0, used, size):
        name = data[at : at + 16].split(b"\0", 1)[0].decode("utf-8", "replace")
        found.setdefault(name, []).append(socket.inet_ntoa(data[at + 20 : at + 24]))
    table = Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else ():
        number, *_, name = line.split()
        found.setdefault(name, []).append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(number)))
    return found


def owner_of(address: str) -> str | None:
    """The interface that owns `address`, any 127.x.y.z belonging to the loopback one. Training
    gives it to gloo and NCCL (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME)."""
    owned = "127.0.0.1" if address.startswith("127.") else address
    return next((name for name, there in interfaces().items() if owned in there), None)


def speed_mbit(interface: str) -> int | None:
    """What the kernel says of the link; nothing for Wi-Fi and VPNs."""
    try:
        speed = int((Path("/sys/class/net") / interface / "speed").read_text())
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None


class Doors:
    """The two ports that peers try: one of the range, and one that the kernel chose as it does for
    gloo and NCCL. `token` is what a peer says first, `answer` what proves that it met us."""

    def __init__(self, token: bytes, answer: bytes) -> None:
        self._token = token
        self._answer = answer
        self._held: list[_Socket] = []
        self._guests = threading.Semaphore(MAX_GUESTS)

    def open_one_of(self, address: str, first: int, last: int) -> int | None:
        """A port of the range that nobody uses and no job has reserved; None when all are taken."""
        ports = list(range(first, last + 1))
        random.shuffle(ports)
        for port in ports:
            # An agent reserves its job's main port by this name (remote/lease.py).
            name = _Socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                name.bind(f"\0sollol/main-port/{port}")
                self._open(address, port)
            except OSError as error:
                name.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                self._held.append(name)
                return port
        return None

    def open_any(self, address: str) -> int:
        return self._open(address, 0)

    def _open(self, address: str, port: int) -> int:
        listener = _Socket(_family(address), socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(MAX_GUESTS)
        except OSError:
            listener.close()
            raise
        threading.Thread(target=self._receive, args=(listener,), daemon=True).start()
        return int(listener.getsockname()[1])

    def _receive(self, listener: _Socket) -> None:
        while True:
            self._guests.acquire()  # whoever comes meanwhile waits in the kernel's queue
            try:
                guest, _ = listener.accept()
            except OSError:
                self._guests.release()
                time.sleep(ACCEPT_AGAIN_S)
                continue
            threading.Thread(target=self._serve, args=(guest,), daemon=True).start()

    def _serve(self, guest: _Socket) -> None:
        try:
            with guest:
                guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                said = _exactly(guest, len(self._token) + 1, time.monotonic() + HANDSHAKE_S)
                token, kind = said[:-1], said[-1:]
                if not hmac.compare_digest(token, self._token):
                    return
                guest.settimeout(STALL_S)
                guest.sendall(self._answer)
                if kind == MEASURE:
                    _echo(guest)
                    guest.sendall(_REPORT.pack(*_swallow(guest)))
                    _exactly(guest, 1)  # until the peer has read it and left
        except (OSError, EOFError):
            pass  # the peer tells why it failed; nobody else is owed an answer
        finally:
            self._guests.release()


def _echo(guest: _Socket) -> None:
    for _ in range(ROUND_TRIPS):
        guest.sendall(_exactly(guest, 1))


def _swallow(guest: _Socket) -> tuple[int, float]:
    """Takes bytes until the peer's order is fulfilled: how many, in how many seconds, counted from
    when the connection had found its pace."""
    seconds, limit = _ORDER.unpack(_exactly(guest, _ORDER.size))
    seconds, limit = min(max(seconds, 0.0), MAX_SECONDS), min(limit, MAX_BYTES)
    buffer = bytearray(1 << 20)
    guest.settimeout(STALL_S)
    total, begun = 0, 0.0
    paced: tuple[int, float] | None = None
    now = 0.0
    while total < limit:
        try:
            count = guest.recv_into(buffer)
        except socket.timeout:  # noqa: UP041 - Python 3.8
            break
        now = time.monotonic()
        if not count:
            break
        if not begun:
            begun = now  # how long the first bytes took cannot be seen from here
            continue
        total += count
        if paced is None and now - begun >= SETTLE_S:
            paced = (total, now)
        if now - begun >= seconds:
            break
    if paced is not None and now - paced[1] >= SETTLE_S:
        return total - paced[0], now - paced[1]
    return total, now - begun


class Caller:
    """Tries the doors of peers."""

    def __init__(self, token: bytes, answer: bytes) -> None:
        self._token = token
        self._answer = answer

    def probe(self, target: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Whether a peer's port lets us in: `ok`, `refused`, `filtered`, `unreachable`, or
        `stranger` when somebody else answers there. `source` is the own address towards it."""
        address, port = str(target["address"]), int(target["port"])
        found = {"key": target.get("key"), "source": _source(address), "detail": ""}
        try:
            self._call(address, port, timeout_s, PROBE).close()
        except (OSError, EOFError) as error:
            return dict(found, outcome=_outcome(error), detail=_words(error))
        return dict(found, outcome="ok")

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        """Latency as the median of some round trips, and the peer's count of what arrived."""
        seconds, limit = float(request["seconds"]), int(request["bytes"])
        peer = self._call(
            str(request["address"]), int(request["port"]), float(request["timeout_s"]), MEASURE
        )
        with peer:
            trips = []
            for _ in range(ROUND_TRIPS):
                begun = time.monotonic()
                peer.sendall(b".")
                _exactly(peer, 1)
                trips.append(time.monotonic() - begun)
            peer.sendall(_ORDER.pack(seconds, limit))
            count, taken = _pour(peer, seconds, limit)
            # What still waits to be sent is worth nothing, and its way is needed.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        rate = count / taken if taken > 0 else 0.0
        return {"latency_s": sorted(trips)[len(trips) // 2], "bytes_per_s": rate}

    def _call(self, address: str, port: int, timeout_s: float, kind: bytes) -> _Socket:
        """An open connection to a peer that proved itself. Raises EOFError for a stranger."""
        deadline = time.monotonic() + timeout_s
        peer = socket.create_connection((address, port), timeout_s)
        try:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.sendall(self._token + kind)
            if not hmac.compare_digest(_exactly(peer, len(self._answer), deadline), self._answer):
                raise EOFError
            peer.settimeout(STALL_S)
        except EOFError:
            peer.close()
            raise EOFError("something else answers there") from None
        except socket.timeout:  # noqa: UP041 - Python 3.8
            peer.close()
            raise socket.timeout("it opens, but no answer comes") from None  # noqa: UP041
        except OSError as error:
            peer.close()
            raise type(error)(error.errno, f"it opens, but then: {_words(error)}") from None
        return peer


def _pour(peer: _Socket, seconds: float, limit: int) -> tuple[int, float]:
    """Sends until the peer reports what it got."""
    block = memoryview(bytes(1 << 18))
    deadline = time.monotonic() + seconds + 2 * STALL_S
    peer.setblocking(False)
    report, left = b"", limit + 2 * len(block)  # the peer does not count the first bytes
    while len(report) < _REPORT.size:
        writable_wanted = [peer] if left > 0 else []
        readable, writable, _ = select.select(
            [peer], writable_wanted, [], max(0.0, deadline - time.monotonic())
        )
        if readable:
            part = peer.recv(_REPORT.size - len(report))
            if not part:
                raise EOFError("the other side gave up")
            report += part
        elif writable:
            left -= peer.send(block)
        else:
            raise EOFError("what is sent does not arrive")
    count, taken = _REPORT.unpack(report)
    return count, taken


def _exactly(peer: _Socket, count: int, deadline: float | None = None) -> bytes:
    """`count` bytes, each within the socket's own patience, or all of them by the deadline."""
    data = b""
    while len(data) < count:
        if deadline is not None:
            peer.settimeout(max(0.001, deadline - time.monotonic()))
        part = peer.recv(count - len(data))
        if not part:
            raise EOFError("the other side closed the connection")
        data += part
    return data


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _source(address: str) -> str:
    """The address that the kernel would use towards another one; nothing is sent."""
    try:
        with _Socket(_family(address), socket.SOCK_DGRAM) as asked:
            asked.connect((address, 9))
            return str(asked.getsockname()[0])
    except OSError:
        return ""


def _outcome(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "stranger"
    if isinstance(error, (ConnectionRefusedError, ConnectionResetError, BrokenPipeError)):
        return "refused"
    if isinstance(error, socket.timeout) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        return "filtered"
    return "unreachable"


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _opened(request: dict[str, Any], doors: Doors) -> dict[str, Any]:
    address = str(request["address"])
    first, last = (int(port) for port in request["ports"])
    interface = owner_of(address)
    if interface is None:
        there = ", ".join(
            own
            for name, owned in sorted(interfaces().items())
            for own in owned
            if name != "lo" and not own.startswith("fe80:")
        )
        return {"error": f"no network interface of it has {address}; it has: {there}"}
    return {
        "interface": interface,
        "speed_mbit": speed_mbit(interface),
        "job_port": doors.open_one_of(address, first, last),
        "free_port": doors.open_any(address),
    }


def _answer(request: dict[str, Any], doors: Doors, caller: Caller) -> dict[str, Any]:
    operation = request.get("op")
    if operation == "open":
        return _opened(request, doors)
    if operation == "probe":
        from concurrent.futures import ThreadPoolExecutor  # a rank's start does without it

        targets = list(request["targets"])[:MAX_TARGETS]
        timeout_s = float(request["timeout_s"])
        with ThreadPoolExecutor(max(1, min(len(targets), 64))) as pool:
            return {"results": list(pool.map(lambda each: caller.probe(each, timeout_s), targets))}
    if operation == "measure":
        return caller.measure(request)
    return {"error": "unknown request"}


def main() -> None:
    """Answers requests until its input ends. The first one carries the token."""
    end = threading.Timer(LIFE_S, os._exit, (1,))
    end.daemon = True
    end.start()
    doors: Doors | None = None
    caller: Caller | None = None
    for line in iter(lambda: sys.stdin.buffer.readline(MAX_REQUEST), b""):
        request: Any = None
        try:
            request = json.loads(line)
            if doors is None or caller is None:
                token, proof = (bytes.fromhex(request[key]) for key in ("token", "proof"))
                doors, caller = Doors(token, proof), Caller(token, proof)
            said = _answer(request, doors, caller)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            said = {"error": _words(error)}
        number = request.get("id") if isinstance(request, dict) else None
        print(json.dumps(dict(said, v=VERSION, id=number)), flush=True)
    os._exit(0)  # whoever is still being served has nobody left to report to


if __name__ == "__main__":
    main()
