"""Opens connections: reads ~/.ssh/config, verifies the host key before all else, logs in.

Refuses passwords, agent forwarding, and every host whose key is unknown or has changed. Each way to
fail is a sentence of its own with what to do next.
"""

import asyncio
import errno
import os
import random
import re
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh

from sollol_tui.hosts.channel import Completed, HostConnection, RemoteProcess
from sollol_tui.hosts.embedded import CIPHERS, connect_local
from sollol_tui.hosts.hostkeys import (
    KeyWitness,
    host_key_error,
    known_name,
    read_known_keys,
    user_files,
)
from sollol_tui.model.errors import AuthenticationError, HostError, UnreachableError
from sollol_tui.model.inventory import ConnectionKind, Host
from sollol_tui.model.text import clean

__all__ = ["Completed", "HostConnection", "RemoteProcess", "connect"]

_KEEPALIVE_S: Final = 5
_KEEPALIVE_COUNT: Final = 3
_CLOSE_S: Final = 2.0
_MAX_JUMPS: Final = 8
_LOCAL_ADDRESS: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a host is, after ~/.ssh/config; `name` is how known_hosts files call it."""

    address: str
    port: int
    user: str
    name: str
    known_hosts: tuple[Path, ...]
    jumps: tuple[str, ...]
    proxy_command: bool
    identities: tuple[str, ...]


@asynccontextmanager
async def connect(
    host: Host, known_hosts: Sequence[Path], *, timeout_s: float | None = None
) -> AsyncIterator[HostConnection]:
    """A connection to `host`, whose key must be in the user's known_hosts or in `known_hosts`.

    Raises UnreachableError, HostKeyError or AuthenticationError, within `timeout_s` (default: the
    host's connect_timeout)."""
    limit = host.connect_timeout_s if timeout_s is None else timeout_s
    if host.connection is ConnectionKind.LOCAL:
        async with connect_local(limit) as local:
            yield HostConnection(host, _LOCAL_ADDRESS, local)
        return
    hops: list[asyncssh.SSHClientConnection] = []
    try:
        try:
            async with asyncio.timeout(limit):
                place = await _open(host, known_hosts, hops)
        except TimeoutError:
            raise too_slow(host, limit) from None
        peer = hops[-1].get_extra_info("peername")
        direct = peer and not place.jumps and not place.proxy_command
        yield HostConnection(host, peer[0] if direct else place.address, hops[-1])
    finally:
        await close_hops(hops)


def too_slow(host: Host, limit_s: float) -> UnreachableError:
    return UnreachableError(
        host.name,
        f"no answer from {clean(host.address or host.name)} within {limit_s:g} s",
        remedy="is it switched on and in this network? connect_timeout gives it longer",
    )


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


async def destination(host: Host, known_hosts: Sequence[Path]) -> Destination:
    """Where `host` is, with what the inventory says laid over ~/.ssh/config."""
    try:
        options = await asyncssh.SSHClientConnectionOptions.construct(
            None, config=(), host=host.name, client_keys=None, agent_path=None, **_given(host)
        )
    except (asyncssh.ConfigParseError, OSError, ValueError) as error:
        raise UnreachableError(
            host.name,
            f"~/.ssh/config cannot be used: {clean(str(error), limit=300)}",
            remedy="`ssh -G` shows how ssh reads it",
        ) from None
    address = host.address or options.host
    jumps = host.proxy_jump or (options.tunnel if isinstance(options.tunnel, str) else "")
    configured = options.config.get("IdentityFile", ())
    return Destination(
        address=address,
        port=options.port,
        user=options.username,
        name=known_name(options.host_key_alias or address, options.port),
        known_hosts=(
            *user_files(options.config.get("UserKnownHostsFile", ())),
            *known_hosts,
        ),
        jumps=tuple(hop.strip() for hop in jumps.split(",") if hop.strip() not in ("", "none")),
        proxy_command=bool(options.proxy_command) and not jumps,
        identities=(host.identity_file,)
        if host.identity_file
        else tuple(map(str, configured if isinstance(configured, list | tuple) else ())),
    )


def _given(host: Host) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if host.port is not None:
        given["port"] = host.port
    if host.user is not None:
        given["username"] = host.user
    return given


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
    if len(hops) + len(place.jumps) > _MAX_JUMPS:
        raise UnreachableError(
            host.name,
            f"its proxy_jump leads through more than {_MAX_JUMPS} hosts",
            remedy="does a jump host name itself as its jump?",
        )
    for jump in place.jumps:
        await _open(_jump_host(host, jump), known_hosts, hops, via=hops[-1] if hops else None)
    via = hops[-1] if place.jumps else None
    return place, None if place.proxy_command else _Route(place, via)


def _jump_host(host: Host, jump: str) -> Host:
    match = re.fullmatch(r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:]+)(?::(\d+))?", jump)
    if match is None:
        raise UnreachableError(host.name, f"proxy_jump {clean(jump)!r} is not [user@]host[:port]")
    user, name, port = match.groups()
    return Host(
        name=name.strip("[]"),
        user=user,
        port=int(port) if port else None,
        connect_timeout_s=host.connect_timeout_s,
    )


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
    known = read_known_keys(place.known_hosts, place.name)
    keys: dict[str, Any] = {}
    if host.identity_file is not None:
        keys["client_keys"] = [os.path.expanduser(host.identity_file)]  # noqa: PTH111
        keys["ignore_encrypted"] = True  # the agent may hold it
    delay_s = 0.2
    while True:
        witness = KeyWitness()
        try:
            connection = await asyncssh.connect(
                host.name,
                tunnel=tunnel,
                known_hosts=known.as_argument(),
                client_factory=lambda witness=witness: witness,
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
                **_given(host),
                **keys,
            )
        except asyncssh.HostKeyNotVerifiable as error:
            raise host_key_error(host.name, known, witness.refused, error.reason) from None
        except asyncssh.KeyExchangeFailed as error:
            # It has no key of the kind that is known; a person needs to see the one it has.
            if known.trusted and (shown := await shown_key(host, place, tunnel)):
                raise host_key_error(host.name, known, shown, error.reason) from None
            raise _unreachable(host, place, error) from None
        except asyncssh.PermissionDenied:
            raise _not_admitted(host, place) from None
        except (asyncssh.ConnectionLost, ConnectionResetError):
            # sshd drops logins at random when many come at once (MaxStartups); the limit of
            # `connect` ends the attempts.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))
            delay_s = min(2 * delay_s, 2.0)
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
            raise _unreachable(host, place, error) from None
        else:
            hops.append(connection)
            return place


async def shown_key(host: Host, place: Destination, tunnel: Any) -> asyncssh.SSHKey | None:
    """The key that the host shows, fetched without logging in and without trusting it."""
    with explained(host, place):
        return await asyncssh.get_server_host_key(
            host.name,
            () if host.port is None else host.port,
            tunnel=() if tunnel is None else tunnel,
        )


def _not_admitted(host: Host, place: Destination) -> HostError:
    files = place.identities or tuple(
        str(path) for path in sorted((Path.home() / ".ssh").glob("id_*")) if path.suffix != ".pub"
    )
    tried = [f"key {clean(file)}" for file in files]
    tried.append("the ssh-agent" if os.environ.get("SSH_AUTH_SOCK") else "no ssh-agent")
    return AuthenticationError(
        host.name,
        f"{clean(place.user)}@{clean(place.address)} does not admit us; tried: {', '.join(tried)}",
        remedy=f"ssh-copy-id {clean(place.user)}@{clean(place.address)}, or load the key into "
        "the agent with ssh-add",
    )


@contextmanager
def explained(host: Host, place: Destination) -> Iterator[None]:
    """Turns what a connection attempt raises inside into an UnreachableError."""
    try:
        yield
    except (asyncssh.Error, OSError) as error:
        raise _unreachable(host, place, error) from None


def _unreachable(host: Host, place: Destination, error: Exception) -> HostError:
    where = f"{clean(place.address)} port {place.port}"
    if isinstance(error, socket.gaierror):
        return UnreachableError(
            host.name,
            f"the name {clean(place.address)!r} is not known to this machine",
            remedy="set its address in the inventory, or HostName in ~/.ssh/config",
        )
    code = _error_number(error)
    if code == errno.ECONNREFUSED:
        return UnreachableError(
            host.name,
            f"{where} refuses connections",
            remedy="does sshd run there, and on this port?",
        )
    if code in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        return UnreachableError(
            host.name,
            f"no route to {where}",
            remedy="is it switched on and in this network?",
        )
    if code == errno.ETIMEDOUT:
        return UnreachableError(
            host.name, f"no answer from {where}", remedy="is it switched on and in this network?"
        )
    reason = clean(getattr(error, "reason", "") or str(error), limit=200)
    return UnreachableError(
        host.name,
        f"no SSH login at {where}: {reason}",
        remedy=f"`ssh -v -p {place.port} {clean(place.address)}` shows more",
    )


def _error_number(error: Exception) -> int | None:
    """The errno, also of asyncio's "Multiple exceptions", which has none of its own."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\[Errno (\d+)\]", str(error))
    return int(found[1]) if found else None
