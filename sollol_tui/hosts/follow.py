"""Copies a run's event and log files to the coordinator, byte for byte, while they grow.

A copy's size is the position reached, so a killed follower goes on without a gap or a repeat.
Refuses every file name that is not one of a run's, and every frame that does not continue its copy.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.ssh import HostConnection, RemoteProcess
from sollol_tui.model.errors import CommandError, UnreachableError
from sollol_tui.model.events import whole
from sollol_tui.model.text import clean, clean_lines

SILENCE_S: Final = 15.0  # beats come every 2 s at least
OUR_SILENCE_S: Final = 60.0  # then the stream there takes the link for cut and ends
SAY_EVERY_S: Final = 10.0
MAX_HEADER: Final = 4096
MAX_FRAME: Final = 64 * 1024 * 1024
_PIECE: Final = 256 * 1024
_NAME: Final = re.compile(
    r"(events\.(agent|\d{1,9})\.\d{1,9}\.jsonl|log\.(agent|\d{1,9})\.\d{1,9})"
)
_MAX_FILES: Final = 10_000


async def follow(
    connection: HostConnection,
    environment: Environment,
    run_dir: str,
    copies: Path,
    *,
    on_beat: Callable[[bool, int | None], None],
    on_data: Callable[[str, Path], None],
) -> None:
    """Appends what the run's files gain to `copies/<file>`, until cancelled or until the other side
    ends the stream. `on_beat` hears whether the agent lives, and its pid where a
    signal has stopped it; `on_data` of each file that grew.

    Raises UnreachableError when the connection is lost or silent, CommandError when what arrives is
    no stream."""
    copies.mkdir(mode=0o700, parents=True, exist_ok=True)
    offsets = {
        path.name: path.stat().st_size for path in copies.iterdir() if _NAME.fullmatch(path.name)
    }
    process = await connection.open(environment.command("remote.stream", run_dir))
    try:
        request = {"v": 1, "offsets": offsets, "silence_s": OUR_SILENCE_S}
        await process.write(json.dumps(request).encode() + b"\n")
        clock = asyncio.get_running_loop().time
        said_at = clock()
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    line = await process.readline(MAX_HEADER)
            except TimeoutError:
                raise _silent(connection) from None
            if not line:
                await _ended(connection, process)
                return
            header = _header(connection, line)
            if clock() - said_at > SAY_EVERY_S:
                said_at = clock()
                await process.write(b"\n")
            if header.get("beat") is True:
                # A dead agent is news only after everything that it wrote has arrived.
                is_alive = header.get("agent") is True or header.get("drained") is False
                on_beat(is_alive, whole(header.get("stopped")))
            elif "file" in header and header.get("lost") is not True:
                await _take(connection, process, header, copies, offsets, on_data)
    finally:
        await process.close()


async def _ended(connection: HostConnection, process: RemoteProcess) -> None:
    status = await process.wait()
    if status != 0:
        complaint = clean_lines(process.error_output, limit=300)
        reason = complaint[-1] if complaint else f"exit status {status}"
        raise CommandError(connection.host.name, f"the stream of the run ended: {reason}")


def _silent(connection: HostConnection) -> UnreachableError:
    return UnreachableError(
        connection.host.name,
        f"nothing heard for {SILENCE_S:g} s",
        remedy="check the network; the training there goes on",
    )


def _header(connection: HostConnection, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("v") != 1:
        raise CommandError(
            connection.host.name,
            f"sends {clean(line, limit=80)!r} where the header of a frame belongs",
        )
    return header


async def _take(
    connection: HostConnection,
    process: RemoteProcess,
    header: dict[str, Any],
    copies: Path,
    offsets: dict[str, int],
    on_data: Callable[[str, Path], None],
) -> None:
    """Appends one frame's bytes to its copy. What has no place here is read and dropped."""
    file, offset, size = header.get("file"), header.get("offset"), header.get("size")
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (offset, size))
    if not whole or not isinstance(size, int) or size > MAX_FRAME:
        raise CommandError(
            connection.host.name, f"sends a frame of {clean(repr(size), limit=40)} bytes"
        )
    known = isinstance(file, str) and _NAME.fullmatch(file) is not None
    known = known and (file in offsets or len(offsets) < _MAX_FILES)
    if not known or not isinstance(file, str):
        await _read(connection, process, size, None)
        return
    if offset != offsets.get(file, 0):
        raise CommandError(
            connection.host.name,
            f"continues {file} at byte {offset}, but its copy here has {offsets.get(file, 0)}",
            remedy="was the run's folder there replaced?",
        )
    path = copies / file
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        offsets[file] = offset + await _read(connection, process, size, descriptor)
    finally:
        os.close(descriptor)
    on_data(file, path)


async def _read(
    connection: HostConnection, process: RemoteProcess, size: int, descriptor: int | None
) -> int:
    left = size
    while left:
        try:
            async with asyncio.timeout(SILENCE_S):
                piece = await process.read(min(left, _PIECE))
        except TimeoutError:
            raise _silent(connection) from None
        if not piece:
            raise UnreachableError(connection.host.name, "the stream of the run broke off")
        left -= len(piece)
        view = memoryview(piece)
        while view and descriptor is not None:
            view = view[os.write(descriptor, view) :]
    return size
