"""Opens connections: reads ~/.ssh/config, verifies the host key before all else, logs in.

Refuses passwords, agent forwarding, and every host whose key is unknown or has changed. Each way to
fail is a sentence of its own with what to do next.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

import asyncssh

from sollol_tui.hosts.channel import Completed, HostConnection, RemoteProcess
from sollol_tui.hosts.destination import Destination, destination, given_options, jump_host
from sollol_tui.hosts.embedded import CIPHERS, connect_local
from sollol_tui.hosts.hostkeys import KeyWitness, host_key_error, read_known_keys
from sollol_tui.hosts.identities import broken_key, login_keys, not_admitted
from sollol_tui.hosts.journey import Journey
from sollol_tui.hosts.login import login_by_hand
from sollol_tui.hosts.refusal import too_slow, unreachable
from sollol_tui.model.errors import (
    AuthenticationError,
    HostError,
    UnreachableError,
    unexpected,
)
from sollol_tui.model.inventory import ConnectionKind, Host
from sollol_tui.model.names import MAX_JUMPS
from sollol_tui.model.text import clean

__all__ = ["Completed", "HostConnection", "RemoteProcess", "connect"]

_log = logging.getLogger(__name__)
AT_ONCE: Final = 32
_KEEPALIVE_S: Final = 5
_KEEPALIVE_COUNT: Final = 3
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
    journey = await stack.enter_async_context(Journey())
    async with bounded(host, limit_s, journey):
        place = await open_route(host, known_hosts, journey)
        await _open(host, place, journey)
    peer = journey.hops[-1].get_extra_info("peername")
    direct = peer and not place.jumps and not place.proxy_command
    return HostConnection(host, peer[0] if direct else place.address, journey.hops[-1])


@asynccontextmanager
async def bounded(host: Host, limit_s: float, journey: Journey) -> AsyncIterator[None]:
    """Whatever goes wrong inside, or takes longer than `limit_s`, is a HostError of `host`: one
    host must not end what is done with the others."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except HostError:
        raise
    except TimeoutError:
        raise too_slow(host, limit_s, journey) from None
    except Exception as error:
        _log.debug("%s: an error that nobody foresaw", host.name, exc_info=error)
        raise unexpected(host.name, error) from error


async def open_route(
    host: Host,
    known_hosts: Sequence[Path],
    journey: Journey,
    *,
    jump: str = "",
    chain: tuple[str, ...] = (),
) -> Destination:
    """Opens the jumps to `host`, each verified like any host, and begins the last stretch, to
    `host` itself; returns where that is. `chain` are the hosts whose jumps led here."""
    place = await destination(host, known_hosts)
    chain = (*chain, host.name)
    for at, name in enumerate(place.jumps):
        through = jump_host(host, name)
        if through.name in chain or len(chain) > MAX_JUMPS:
            raise UnreachableError(
                chain[0],
                f"its jumps go in a circle: {clean(' -> '.join([*chain, through.name]))}",
                remedy="mend proxy_jump in the inventory, or ProxyJump in ~/.ssh/config",
            )
        try:
            if at == 0:
                before = await open_route(through, known_hosts, journey, jump=name, chain=chain)
            else:  # reached through the one before it, whatever its own jumps are
                before = await destination(through, known_hosts)
                journey.begin(through, before, name, via=journey.hops[-1])
            is_listed = through.name in {other.name for other in host.jump_hosts}
            await _open(through, before, journey, is_listed=is_listed)
        except HostError as error:
            if error.host != through.name:
                raise
            raise type(error)(
                chain[0], f"its jump {clean(name)}: {error.message}", remedy=error.remedy
            ) from None
    journey.begin(host, place, jump, via=journey.hops[-1] if place.jumps else None)
    return place


async def _open(
    host: Host, place: Destination, journey: Journey, *, is_listed: bool = True
) -> None:
    """Logs in on `host`, to which the route is open, and adds the connection to the journey."""
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
            journey.hops.append(await _log_in(host, place, journey, is_listed))
            journey.passed.append(place)


async def _log_in(
    host: Host, place: Destination, journey: Journey, is_listed: bool
) -> asyncssh.SSHClientConnection:
    """One attempt. A connection that was dropped on the way is asyncssh's own error."""
    known = read_known_keys(place.known_hosts, place.name)
    by_hand = "" if is_listed else login_by_hand(place, journey.passed)
    witness = KeyWitness()
    try:
        return await asyncssh.connect(
            host.name,
            tunnel=journey.tunnel,
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
            **login_keys(host, place),
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise host_key_error(host.name, known, witness, error.reason, by_hand) from None
    except asyncssh.KeyExchangeFailed as error:
        # It has no key of the kind that is known; a person needs to see the one it has.
        if known.trusted and (shown := await shown_key(host, place, journey)):
            witness = KeyWitness(shown)
            raise host_key_error(host.name, known, witness, error.reason, by_hand) from None
        raise unreachable(host, place, error, journey.passed) from None
    except asyncssh.PermissionDenied:
        raise not_admitted(host, place, journey.passed) from None
    except (asyncssh.ConnectionLost, ConnectionResetError) as error:
        if failure := await journey.failure():
            raise failure from None
        journey.dropped = clean(getattr(error, "reason", "") or str(error), limit=200)
        raise
    except asyncssh.KeyImportError as error:
        raise broken_key(host, place, error) from None
    except FileNotFoundError as error:
        raise AuthenticationError(
            host.name,
            f"there is no key file {clean(str(error.filename))}",
            remedy="check identity_file in the inventory or IdentityFile in ~/.ssh/config",
        ) from None
    except (asyncssh.Error, OSError, UnicodeError) as error:
        raise await journey.failure() or unreachable(host, place, error, journey.passed) from None
    finally:
        journey.speaks_ssh = journey.speaks_ssh or witness.has_heard_ssh


async def shown_key(host: Host, place: Destination, journey: Journey) -> asyncssh.SSHKey | None:
    """The key that the host shows, fetched without logging in and without trusting it."""
    try:
        return await asyncssh.get_server_host_key(
            host.name, () if host.port is None else host.port, tunnel=journey.tunnel
        )
    except (asyncssh.Error, OSError, UnicodeError) as error:
        raise await journey.failure() or unreachable(host, place, error, journey.passed) from None
