"""The way to one host while it is being opened: hops, proxies, and how far the attempt has come.

Opens no route itself and logs in nowhere; whatever it holds it closes, the last hop first.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import asyncssh

from sollol_tui.hosts.destination import Destination
from sollol_tui.hosts.shell import quote
from sollol_tui.model.errors import UnreachableError
from sollol_tui.model.inventory import Host
from sollol_tui.model.text import clean, clean_lines

_log = logging.getLogger(__name__)
_CLOSE_S: Final = 2.0
_SAID: Final = 4096


class Proxy:
    """The ProxyCommand of ~/.ssh/config, which asyncssh takes for a tunnel. Its errors are kept,
    where asyncssh would read them as if the host had sent them."""

    def __init__(self, host: Host, place: Destination) -> None:
        self._host = host
        self._command = place.proxy_command
        self._runs: list[tuple[subprocess.Popen[bytes], Any]] = []

    def __str__(self) -> str:
        return f"its ProxyCommand ({clean(quote(*self._command), limit=200)})"

    async def create_connection(self, factory: Any, _host: str, _port: int) -> tuple[Any, Any]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._start(theirs)
            except OSError as error:
                ours.close()
                raise UnreachableError(
                    self._host.name,
                    f"{self} cannot be run: {error.strerror}",
                    remedy="mend ProxyCommand in ~/.ssh/config",
                ) from None
        return await asyncio.get_running_loop().create_connection(factory, sock=ours)

    def _start(self, theirs: socket.socket) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        try:
            running = subprocess.Popen(
                list(self._command),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=errors,
                start_new_session=True,
            )
        except OSError:
            errors.close()
            raise
        self._runs.append((running, errors))

    @property
    def complaint(self) -> str:
        """The first line of what the newest run said on its error output."""
        if not self._runs:
            return ""
        said = os.pread(self._runs[-1][1].fileno(), _SAID, 0)
        return next((line for line in clean_lines(said, limit=200) if line.strip()), "")

    async def failure(self) -> UnreachableError | None:
        """Why its newest run ended, once the connection is gone; None when it has not."""
        if not self._runs:
            return None
        running = self._runs[-1][0]
        try:
            status = await asyncio.to_thread(running.wait, _CLOSE_S)
        except subprocess.TimeoutExpired:
            return None
        why = f": {self.complaint}" if self.complaint else ""
        return UnreachableError(
            self._host.name,
            f"{self} ended with status {status}{why}",
            remedy="try it by hand, and mend ProxyCommand in ~/.ssh/config",
        )

    async def close(self) -> None:
        for running, errors in self._runs:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(running.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(running.wait, _CLOSE_S)
                    break
            errors.close()


@dataclass(slots=True, kw_only=True)
class Journey:
    """`jump` is the one that is being opened, "" for the host itself; `place` is where that is,
    and `tunnel` what asyncssh takes to reach it. `passed` is where each of `hops` is.
    `has_connected` says that its port took a connection, `speaks_ssh` that an SSH server answered,
    and `dropped` why the last attempt ended."""

    hops: list[asyncssh.SSHClientConnection] = field(default_factory=list)
    passed: list[Destination] = field(default_factory=list)
    proxies: list[Proxy] = field(default_factory=list)
    jump: str = ""
    place: Destination | None = None
    proxy: Proxy | None = None
    tunnel: Any = None
    has_connected: bool = False
    speaks_ssh: bool = False
    dropped: str = ""

    def begin(
        self,
        host: Host,
        place: Destination,
        jump: str,
        *,
        via: asyncssh.SSHClientConnection | None,
    ) -> None:
        """The next stretch leads to `place`, through the hop `via` where there is one."""
        where = clean(f"{place.user}@{place.address} port {place.port}")
        _log.info("%s: connects to %s%s", host.name, where, f", jump {jump}" if jump else "")
        self.place, self.jump, self.dropped = place, jump, ""
        self.has_connected = self.speaks_ssh = False
        self.proxy = None
        if place.proxy_command and via is None:
            self.proxy = Proxy(host, place)
            self.proxies.append(self.proxy)
        self.tunnel = self.proxy or Route(self, place, via)

    async def failure(self) -> UnreachableError | None:
        """Why its proxy ended, when it goes through one that has."""
        return None if self.proxy is None else await self.proxy.failure()

    async def __aenter__(self) -> "Journey":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for hop in reversed(self.hops):
            await _close(hop)
        for proxy in self.proxies:
            await proxy.close()


class Route:
    """How the bytes travel: straight or through the last jump. asyncssh takes it for a tunnel, so
    that an address of the inventory can stand in for the one that ~/.ssh/config gives."""

    def __init__(
        self, journey: Journey, place: Destination, via: asyncssh.SSHClientConnection | None
    ) -> None:
        self._journey, self._place, self._via = journey, place, via

    async def create_connection(self, factory: Any, _host: str, _port: int) -> tuple[Any, Any]:
        opener: Any = self._via or asyncio.get_running_loop()
        opened: tuple[Any, Any] = await opener.create_connection(
            factory, self._place.address, self._place.port
        )
        self._journey.has_connected = True
        return opened


async def _close(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()
        await connection.wait_closed()
