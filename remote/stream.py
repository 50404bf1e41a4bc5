"""Sends what a run's events and logs gain, by byte offset, to whoever reads stdout. Reads regular
files of the run directory whose names it knows, and writes nothing on this host.

`python -P -m remote.stream RUN_DIR`; the first line of stdin says where to begin, its end ends us.
"""

import json
import os
import re
import select
import stat
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remote.disk import told
from remote.following import follow
from remote.lease import is_locked
from remote.remains import stopped_agent

CHUNK_BYTES = 64 * 1024
POLL_S = 0.2
GATHER_S = 0.5  # the other end pays for each packet: news that come in a row travel together
BEAT_S = 1.0
_NAME = re.compile(r"(events|log)\.(agent|[0-9]{1,4})\.[0-9]{1,4}(\.jsonl)?")
_FIRST_LINE_LIMIT = 1 << 20


class Hangup(Exception):
    """The other end is gone: the normal end of a stream."""


class Wire:
    """Frames out, hang-up in. Never blocked in a write while the other end says goodbye, nor after
    `silence_s` in which it said nothing, once that is set: of a cable that is cut nobody hears."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.silence_s: float | None = None
        self._incoming = incoming
        self._outgoing = outgoing
        self._unsent = bytearray()
        self._heard_at = time.monotonic()
        os.set_blocking(outgoing, False)

    def first_line(self) -> Any:
        line = b""
        while not line.endswith(b"\n"):
            select.select([self._incoming], [], [])  # stdin and stdout may be one socket
            byte = os.read(self._incoming, 1)
            if not byte or len(line) > _FIRST_LINE_LIMIT:
                raise Hangup
            line += byte
        return json.loads(line)

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Adds a frame to those that `flush` sends; many, or large ones, go at once."""
        self._unsent += json.dumps({"v": 1, **header}).encode() + b"\n" + body
        if len(self._unsent) >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        view = memoryview(bytes(self._unsent))
        self._unsent.clear()
        while view:
            readable, writable, _ = select.select(
                [self._incoming], [self._outgoing], [], self.silence_s
            )
            self._hear(is_said=bool(readable))
            if writable:
                try:
                    view = view[os.write(self._outgoing, view) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise Hangup from None

    def pause(self, seconds: float) -> None:
        """Waits, unless the other end hangs up first."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._hear(is_said=bool(select.select([self._incoming], [], [], left)[0]))

    def _hear(self, *, is_said: bool) -> None:
        now = time.monotonic()
        if is_said:
            self._heard_at = now
            if not os.read(self._incoming, 4096):
                raise Hangup
        elif self.silence_s is not None and now - self._heard_at > self.silence_s:
            raise Hangup


class Stream:
    """The position reached in every file of one run directory."""

    def __init__(self, run_dir: Path, offsets: Mapping[str, int], wire: Wire) -> None:
        self._run_dir = run_dir
        self._offsets = dict(offsets)
        self._lost: set[str] = set()
        self._wire = wire
        self._beat_at = time.monotonic()

    def follow(self) -> None:
        """Sends for ever; ends by Hangup."""
        while True:
            agent = is_locked(self._run_dir)
            # Asked before the files are read: once the agent is gone and everything found after
            # that has been sent, nothing more will come.
            is_busy = self._drain(agent)
            if time.monotonic() >= self._beat_at:
                self._beat(agent, drained=True)
            self._wire.flush()
            self._wire.pause(GATHER_S if is_busy else POLL_S)

    def _drain(self, agent: bool) -> bool:
        """Sends what the files hold beyond their offsets, a chunk of each in turn, so that a flood
        in one log does not keep the events waiting. False when there is nothing."""
        is_busy = False
        while grown := self._grown():
            is_busy = True
            for name, size in grown:
                self._send_chunk(name, size)
                if time.monotonic() >= self._beat_at:
                    self._beat(agent, drained=False)
        return is_busy

    def _beat(self, agent: bool, *, drained: bool) -> None:
        self._beat_at = time.monotonic() + BEAT_S
        stopped = stopped_agent(self._run_dir) if agent else None
        more = {} if stopped is None else {"stopped": stopped.pid}
        self._wire.send({"beat": True, "agent": agent, "drained": drained, **more})

    def _grown(self) -> list[tuple[str, int]]:
        """Files whose size differs from what was sent, events first."""
        found = []
        with os.scandir(self._run_dir) as entries:
            for entry in entries:
                if not _NAME.fullmatch(entry.name) or entry.name in self._lost:
                    continue
                status = entry.stat(follow_symlinks=False)
                sent = self._offsets.get(entry.name, 0)
                if stat.S_ISREG(status.st_mode) and status.st_size != sent:
                    found.append((entry.name, status.st_size))
        return sorted(found)

    def _send_chunk(self, name: str, size: int) -> None:
        offset = self._offsets.get(name, 0)
        if offset > size:
            # Not the file that was copied. What follows could only be mixed up with it.
            self._lost.add(name)
            self._wire.send({"file": name, "lost": True, "size": size})
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._run_dir / name, flags)
        try:
            body = os.pread(descriptor, CHUNK_BYTES, offset)
        finally:
            os.close(descriptor)
        if body:
            self._wire.send({"file": name, "offset": offset, "size": len(body)}, body)
            self._offsets[name] = offset + len(body)


def _parse_offsets(request: Any) -> dict[str, int]:
    offsets = request["offsets"]
    if not all(isinstance(offset, int) and offset >= 0 for offset in offsets.values()):
        raise ValueError("offsets are counts of bytes")
    return dict(offsets)


def _parse_silence(request: Any) -> float | None:
    """How long the other end may say nothing; None where it does not say anything at all."""
    silence_s = request.get("silence_s")
    return None if silence_s is None else float(silence_s)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -P -m remote.stream RUN_DIR", file=sys.stderr)
        return 2
    run_dir = Path(arguments[0])
    if not run_dir.is_dir():
        print(f"there is no run in {run_dir}", file=sys.stderr)
        return 3
    wire = Wire(sys.stdin.fileno(), sys.stdout.fileno())
    try:
        follow(run_dir)
        request = wire.first_line()
        wire.silence_s = _parse_silence(request)
        Stream(run_dir, _parse_offsets(request), wire).follow()
    except Hangup:
        return 0
    except OSError as error:
        print(f"the run can no longer be read: {told(error)}", file=sys.stderr)
        return 3
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        print(f'the first line must be {{"v": 1, "offsets": {{...}}}}: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
