"""Opens connections: reads ~/.ssh/config, verifies the host key before all else, logs in.

Refuses passwords, agent forwarding, and every host whose key is unknown or has changed. Each way to
fail is a sentence of its own with what to do next.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import asyncssh

from sollol_tui.hosts.channel import Completed, HostConnection, RemoteProcess
from sollol_tui.hosts.destination import (
    MAX_JUMPS,
    Destination,
    destination,
    given_options,
    jump_host,
)
from sollol_tui.hosts.embedded import CIPHERS, connect_local
from sollol_tui.hosts.hostkeys import KeyWitness, host_key_error, read_known_keys
from sollol_tui.hosts.refusal import explained, not_admitted, too_slow, unreachable
from sollol_tui.model.errors import AuthenticationError, UnreachableError
from sollol_tui.model.inventory import ConnectionKind, Host
from sollol_tui.model.text import clean

__all__ = ["Completed", "HostConnection", "RemoteProcess", "connect"]

AT_ONCE: Final = 32
_KEEPALIVE_S: Final = 5
_KEEPALIVE_COUNT: Final = 3
_CLOSE_S: Final = 2.0
_LOCAL_ADDRESS: Final = "127.0.0.1"
_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
# Whoever calls us hears of retries by how long they take; a program's own logging still gets them.
logging.getLogger("stamina").addHandler(logging.NullHandler())


@asynccontextmanager
async def connect(
    host: Host, known_hosts: Sequence[Path], *, timeout_s: float | None = None
) -> AsyncIterator[HostConnection]:
    """A connection to `host`, whose key must be in the user's known_hosts or in `known_hosts`.

    Raises UnreachableError, HostKeyError or AuthenticationError, within `timeout_s` (default: the
    host's connect_timeout)."""
    limit = host.connect_timeout_s if timeout_s is None else timeout_s
    async with AsyncExitStack() as stack:
        async with _gate():
            reached = await _reach(host, known_hosts, limit, stack)
        yield reached


def _gate() -> asyncio.Semaphore:
    """Bounds how many connections are being opened at once, whoever opens them. Time spent waiting
    here is not the host's."""
    return _gates.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))


async def _reach(
    host: Host, known_hosts: Sequence[Path], limit_s: float, stack: AsyncExitStack
) -> HostConnection:
    if host.connection is ConnectionKind.LOCAL:
        local = await stack.enter_async_context(connect_local(limit_s))
        return HostConnection(host, _LOCAL_ADDRESS, local)
    hops: list[asyncssh.SSHClientConnection] = []
    stack.push_async_callback(close_hops, hops)
    try:
        async with asyncio.timeout(limit_s):
            place = await _open(host, known_hosts, hops)
    except TimeoutError:
        raise too_slow(host, limit_s) from None
    peer = hops[-1].get_extra_info("peername")
    direct = peer and not place.jumps and not place.proxy_command
    return HostConnection(host, peer[0] if direct else place.address, hops[-1])


async def close_hops(hops: Sequence[asyncssh.SSHClientConnection]) -> None:
    """Closes a connection and the jumps that it went through, the last one first."""
    for hop in reversed(hops):
        await _close(hop)


async def _close(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()
        await connection.wait_closed()


class _Route:
    """How the bytes travel: straight or through the last jump. asyncssh takes it for a tunnel, so
    that an address of the inventory can stand in for the one that ~/.ssh/config gives."""

    def __init__(self, place: Destination, via: asyncssh.SSHClientConnection | None) -> None:
        self._place = place
        self._via = via

    async def create_connection(self, factory: Any, _host: str, _port: int) -> tuple[Any, Any]:
        if self._via is not None:
            return await self._via.create_connection(factory, self._place.address, self._place.port)
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, self._place.address, self._place.port)


async def open_route(
    host: Host, known_hosts: Sequence[Path], hops: list[asyncssh.SSHClientConnection]
) -> tuple[Destination, Any]:
    """Opens the jumps to `host`, each verified like any host, into `hops`; returns where the host
    is and what asyncssh takes as `tunnel`."""
    place = await destination(host, known_hosts)
    if len(hops) + len(place.jumps) > MAX_JUMPS:
        raise UnreachableError(
            host.name,
            f"its proxy_jump leads through more than {MAX_JUMPS} hosts",
            remedy="does a jump host name itself as its jump?",
        )
    for jump in place.jumps:
        await _open(jump_host(host, jump), known_hosts, hops, via=hops[-1] if hops else None)
    via = hops[-1] if place.jumps else None
    return place, None if place.proxy_command else _Route(place, via)


async def _open(
    host: Host,
    known_hosts: Sequence[Path],
    hops: list[asyncssh.SSHClientConnection],
    *,
    via: asyncssh.SSHClientConnection | None = None,
) -> Destination:
    """Logs in on `host` and appends the connection to `hops`."""
    place, tunnel = await open_route(host, known_hosts, hops) if via is None else (None, None)
    if place is None:
        place = await destination(host, known_hosts)
        tunnel = _Route(place, via)
    import stamina  # not before a connection over the network is wanted: it takes its time

    # sshd drops logins at random when many come at once (MaxStartups); the limit of `connect` ends
    # the attempts.
    async for attempt in stamina.retry_context(
        on=(asyncssh.ConnectionLost, ConnectionResetError),
        attempts=None,
        timeout=None,
        wait_initial=0.2,
        wait_max=2.0,
        wait_jitter=0.5,
    ):
        with attempt:
            hops.append(await _log_in(host, place, tunnel))
    return place


async def _log_in(host: Host, place: Destination, tunnel: Any) -> asyncssh.SSHClientConnection:
    """One attempt. A connection that was dropped on the way is asyncssh's own error."""
    known = read_known_keys(place.known_hosts, place.name)
    keys: dict[str, Any] = {}
    if host.identity_file is not None:
        keys["client_keys"] = [os.path.expanduser(host.identity_file)]  # noqa: PTH111
        keys["ignore_encrypted"] = True  # the agent may hold it
    witness = KeyWitness()
    try:
        return await asyncssh.connect(
            host.name,
            tunnel=tunnel,
            known_hosts=known.as_argument(),
            host_key_alias=place.alias,
            client_factory=lambda: witness,
            encryption_algs=CIPHERS,
            keepalive_interval=_KEEPALIVE_S,
            keepalive_count_max=_KEEPALIVE_COUNT,
            login_timeout=0,  # the caller's limit stands over all hops
            connect_timeout=None,
            agent_forwarding=False,
            password_auth=False,
            kbdint_auth=False,
            gss_kex=False,
            x509_trusted_certs=None,
            **given_options(host),
            **keys,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise host_key_error(host.name, known, witness, error.reason) from None
    except asyncssh.KeyExchangeFailed as error:
        # It has no key of the kind that is known; a person needs to see the one it has.
        if known.trusted and (shown := await shown_key(host, place, tunnel)):
            raise host_key_error(host.name, known, KeyWitness(shown), error.reason) from None
        raise unreachable(host, place, error) from None
    except asyncssh.PermissionDenied:
        raise not_admitted(host, place) from None
    except (asyncssh.ConnectionLost, ConnectionResetError):
        raise
    except asyncssh.KeyImportError as error:
        raise AuthenticationError(
            host.name,
            f"a key file cannot be used: {clean(str(error), limit=200)}",
            remedy="check identity_file",
        ) from None
    except FileNotFoundError as error:
        raise AuthenticationError(
            host.name,
            f"there is no key file {clean(str(error.filename))}",
            remedy="check identity_file in the inventory or IdentityFile in ~/.ssh/config",
        ) from None
    except (asyncssh.Error, OSError) as error:
        raise unreachable(host, place, error) from None


async def shown_key(host: Host, place: Destination, tunnel: Any) -> asyncssh.SSHKey | None:
    """The key that the host shows, fetched without logging in and without trusting it."""
    with explained(host, place):
        return await asyncssh.get_server_host_key(
            host.name,
            () if host.port is None else host.port,
            tunnel=() if tunnel is None else tunnel,
        )
