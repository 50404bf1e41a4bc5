"""What an open connection can do: commands and long-lived processes.

Every output has a cap, and a lost connection is an UnreachableError, whatever asyncssh calls it."""

import asyncio
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import asyncssh

from sollol_tui.hosts.shell import marked
from sollol_tui.model.errors import CommandError, HostError, UnreachableError
from sollol_tui.model.inventory import Host
from sollol_tui.model.text import clean, clean_lines

_log = logging.getLogger(__name__)
MAX_OUTPUT: Final = 16 * 1024 * 1024
MAX_LINE: Final = 64 * 1024
_CHUNK: Final = 256 * 1024
_PREAMBLE: Final = 1024 * 1024  # what a login shell's start-up files may print before a command
_CLOSE_S: Final = 2.0
_SESSION_S: Final = 3.0
_SESSIONS: Final = 6  # of the 10 that sshd admits by default; the others are long-lived streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    exit_status: int
    stdout: bytes
    stderr: bytes

    @property
    def complaint(self) -> str:
        """The first line of its errors that says something, safe to show."""
        return next((line for line in clean_lines(self.stderr, limit=300) if line.strip()), "")


class _TooLongError(Exception):
    """A line is longer than its reader takes."""


def _shown(command: str) -> str:
    """A command in a sentence; a script is not to be read there."""
    is_script = "\n" in command or command == "sh -s"
    return "a script of ours" if is_script else clean(command, limit=120)


class HostConnection:
    """One host, reached. Made by `ssh.connect`; usable by several tasks at once."""

    def __init__(self, host: Host, address: str, connection: asyncssh.SSHClientConnection) -> None:
        self.host = host
        self.address = address
        self._connection = connection
        self._sessions = asyncio.Semaphore(_SESSIONS)

    async def run(
        self,
        command: str,
        *,
        input: bytes = b"",  # noqa: A002 - as subprocess.run calls it
        timeout_s: float,
        check: bool = True,
    ) -> Completed:
        """Runs a command to its end. Raises CommandError when it takes longer than `timeout_s`,
        prints more than MAX_OUTPUT or, with `check`, ends with another status than 0."""
        process = None
        async with self._sessions:
            try:
                async with asyncio.timeout(timeout_s):
                    process = await self.open(command)
                    try:
                        done = await self._complete(process, input)
                    finally:
                        await process.close()
            except TimeoutError:
                if process is not None and not process.has_begun:
                    raise CommandError(
                        self.host.name,
                        f"its login shell starts no command within {timeout_s:g} s",
                        remedy="what do its start-up files (~/.bashrc, ~/.profile) wait for?",
                    ) from None
                raise CommandError(
                    self.host.name,
                    f"no answer within {timeout_s:g} s to: {_shown(command)}",
                    remedy="the machine may be overloaded; try again",
                ) from None
        if check and done.exit_status != 0:
            reason = done.complaint or f"exit status {done.exit_status}"
            raise CommandError(self.host.name, f"{_shown(command)}: {reason}")
        return done

    async def _complete(self, process: "RemoteProcess", data: bytes) -> Completed:
        async def feed() -> None:
            # A command may end without reading all of its input; its exit status says why.
            with suppress(BrokenPipeError):
                await process.write(data)
                await process.write_eof()

        async def collect() -> bytes:
            parts: list[bytes] = []
            size = 0
            while chunk := await process.read(_CHUNK):
                parts.append(chunk)
                size += len(chunk)
                if size > MAX_OUTPUT:
                    raise CommandError(
                        self.host.name,
                        f"printed more than {MAX_OUTPUT >> 20} MiB: {_shown(process.command)}",
                    )
            return b"".join(parts)

        feeding = asyncio.create_task(feed())
        try:
            stdout = await collect()
            status = await process.wait()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return Completed(exit_status=status, stdout=stdout, stderr=process.error_output)

    async def open(self, command: str) -> "RemoteProcess":
        """Starts a command and leaves it to the caller, who closes it. Its output begins after
        whatever the login shell printed."""
        mark = f"sollol-{secrets.token_hex(8)}"
        _log.info("%s: runs %s", self.host.name, clean(command, limit=200))
        with self.translated():
            try:
                process = await self._start(marked(command, mark))
            except asyncssh.ChannelOpenError:
                if self._connection.is_closed():
                    raise
                process = await self._start_patiently(marked(command, mark))
        return RemoteProcess(self, command, mark, process)

    async def _start(self, line: str) -> asyncssh.SSHClientProcess[bytes]:
        return await self._connection.create_process(line, encoding=None, request_pty=False)

    async def _start_patiently(self, line: str) -> asyncssh.SSHClientProcess[bytes]:
        """Tries again: sshd counts a session (MaxSessions) until a moment after its end."""
        import stamina  # rarely wanted, and it takes its time

        async for attempt in stamina.retry_context(
            on=asyncssh.ChannelOpenError,
            attempts=None,
            timeout=_SESSION_S,
            wait_initial=0.05,
            wait_max=0.5,
            wait_jitter=0.1,
        ):
            with attempt:
                return await self._start(line)
        raise AssertionError("unreachable")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turns what asyncssh raises inside into errors that name this host."""
        try:
            yield
        except asyncssh.ChannelOpenError as error:
            if self._connection.is_closed() or "connection closed" in error.reason:
                raise self.lost() from None
            raise CommandError(
                self.host.name,
                f"opens no further session: {clean(str(error), limit=200)}",
                remedy="raise MaxSessions in its sshd_config",
            ) from None
        except (asyncssh.DisconnectError, ConnectionError) as error:
            if isinstance(error, BrokenPipeError) and not self._connection.is_closed():
                raise
            raise self.lost(str(error)) from None

    def lost(self, reason: str = "") -> HostError:
        detail = f" ({clean(reason, limit=200)})" if reason else ""
        return UnreachableError(
            self.host.name,
            f"the connection was lost{detail}",
            remedy="check the network; what runs there goes on",
        )


class RemoteProcess:
    """A command that runs on the host as long as its caller wants. One task reads, one writes."""

    def __init__(
        self,
        owner: HostConnection,
        command: str,
        mark: str,
        process: asyncssh.SSHClientProcess[bytes],
    ) -> None:
        self.command = command
        self.error_output = b""
        self.preamble = b""  # the first line that the login shell printed before the command
        self._owner = owner
        self._mark = mark.encode() + b"\n"
        self._process = process
        self._buffer = bytearray()
        self.has_begun = False  # what the login shell printed before the command is over
        self._errors = asyncio.create_task(self._collect_errors())

    async def write(self, data: bytes | memoryview) -> None:
        """Sends `data`, waiting while the other side is slow."""
        with self._owner.translated():
            for start in range(0, len(data), _CHUNK):
                self._process.stdin.write(bytes(data[start : start + _CHUNK]))
                await self._process.stdin.drain()

    async def write_eof(self) -> None:
        with self._owner.translated():
            if self._process.stdin.can_write_eof():
                self._process.stdin.write_eof()

    async def read(self, n: int) -> bytes:
        """At most `n` bytes; empty at the end of the output."""
        if not self.has_begun:
            await self._skip_preamble()
        if not self._buffer and not await self._fill():
            return b""
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    async def readexactly(self, n: int) -> bytes:
        """`n` bytes. Raises CommandError when the output ends before."""
        parts = []
        while n > 0:
            chunk = await self.read(n)
            if not chunk:
                raise CommandError(
                    self._owner.host.name,
                    f"its output ended early: {_shown(self.command)}",
                )
            parts.append(chunk)
            n -= len(chunk)
        return b"".join(parts)

    async def readline(self, limit: int = MAX_LINE) -> bytes:
        """One line with its newline; the rest without one at the end of the output, then empty.
        Raises CommandError for a line of more than `limit` bytes."""
        if not self.has_begun:
            await self._skip_preamble()
        try:
            return await self._line(limit)
        except _TooLongError:
            raise CommandError(
                self._owner.host.name,
                f"sent a line of more than {limit} bytes: {_shown(self.command)}",
            ) from None

    async def _line(self, limit: int) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > limit:
                break
            if not await self._fill():
                end = len(self._buffer) - 1
                break
        if end + 1 > limit or (end < 0 and searched > limit):
            raise _TooLongError
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    async def _skip_preamble(self) -> None:
        """Drops what the login shell printed before the command began."""
        dropped, line = 0, b""
        while dropped <= _PREAMBLE and not line.endswith(self._mark):
            try:
                line = await self._line(_PREAMBLE)
            except _TooLongError:
                line = bytes(self._buffer[: _PREAMBLE + 1])
            if not line:
                break
            if not line.endswith(self._mark):
                self.preamble = self.preamble or line
                dropped += len(line)
        self.has_begun = True
        if line.endswith(self._mark):
            return
        said = clean(self.preamble, limit=200) or next(
            iter(clean_lines(self.error_output, limit=200)), "nothing"
        )
        flood = f"prints more than {_PREAMBLE >> 20} MiB before a command"
        what = f"its login shell {flood}" if line else "the login shell does not run commands"
        raise CommandError(
            self._owner.host.name,
            f"{what}; it says: {said}",
            remedy="give the account a shell such as /bin/sh, and let its start-up files be "
            "silent and short without a terminal",
        )

    async def _fill(self) -> bool:
        with self._owner.translated():
            chunk = await self._process.stdout.read(_CHUNK)
        self._buffer += chunk
        return bool(chunk)

    async def _collect_errors(self) -> None:
        """Keeps the first and the last part of the errors; a flood of them costs no memory."""
        with suppress(asyncssh.Error, ConnectionError):
            while chunk := await self._process.stderr.read(_CHUNK):
                errors = self.error_output + chunk
                _, mark, after = errors.partition(self._mark)
                errors = after if mark else errors
                if len(errors) > 2 * _CHUNK:
                    errors = errors[:_CHUNK] + errors[-_CHUNK:]
                self.error_output = errors

    async def wait(self) -> int:
        """The exit status; 128 + n for signal n. Raises UnreachableError when the connection was
        lost before the command ended."""
        with self._owner.translated():
            await self._process.wait_closed()
            await self._errors
        status, signalled = self._process.exit_status, self._process.exit_signal
        if status is None and signalled is None:
            raise self._owner.lost()
        return self._process.returncode if status is None else status  # type: ignore[return-value]

    async def close(self) -> None:
        """Ends the channel. The command sees the end of its input; it is not killed."""
        self._process.close()
        # A command that never takes what was sent to it keeps the channel open, but not the caller.
        with suppress(asyncssh.Error, ConnectionError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._process.wait_closed()
        self._errors.cancel()
        with suppress(asyncio.CancelledError):
            await self._errors
