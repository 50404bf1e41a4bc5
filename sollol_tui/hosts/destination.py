"""Where a host is: what the inventory says, laid over ~/.ssh/config. Connects to nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncssh

from sollol_tui.hosts.hostkeys import known_name, user_files
from sollol_tui.model.errors import UnreachableError
from sollol_tui.model.inventory import Host
from sollol_tui.model.names import JUMP, PORTS
from sollol_tui.model.text import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a host is, after ~/.ssh/config; `alias` is how host certificates call it, `name` how
    known_hosts files do."""

    address: str
    port: int
    user: str
    alias: str
    name: str
    known_hosts: tuple[Path, ...]
    jumps: tuple[str, ...]
    proxy_command: tuple[str, ...]
    identities: tuple[str, ...]


async def destination(host: Host, known_hosts: Sequence[Path]) -> Destination:
    """Where `host` is, with what the inventory says laid over ~/.ssh/config."""
    try:
        options = await asyncssh.SSHClientConnectionOptions.construct(
            None,
            config=(),
            host=host.name,
            client_keys=None,
            agent_path=None,
            **given_options(host),
        )
    except (asyncssh.ConfigParseError, OSError, ValueError) as error:
        raise UnreachableError(
            host.name,
            f"~/.ssh/config cannot be used: {clean(str(error), limit=300)}",
            remedy="`ssh -G` shows how ssh reads it",
        ) from None
    address = host.address or options.host
    alias = options.host_key_alias or address
    jumps = host.proxy_jump or (options.tunnel if isinstance(options.tunnel, str) else "")
    configured = options.config.get("IdentityFile", ())
    return Destination(
        address=address,
        port=options.port,
        user=options.username,
        alias=alias,
        name=known_name(alias, options.port),
        known_hosts=(
            *user_files(options.config.get("UserKnownHostsFile", ())),
            *known_hosts,
        ),
        jumps=tuple(hop.strip() for hop in jumps.split(",") if hop.strip() not in ("", "none")),
        proxy_command=() if jumps else tuple(options.proxy_command or ()),
        identities=(host.identity_file,)
        if host.identity_file
        else tuple(map(str, configured if isinstance(configured, list | tuple) else ())),
    )


def given_options(host: Host) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if host.port is not None:
        given["port"] = host.port
    if host.user is not None:
        given["username"] = host.user
    return given


def jump_host(host: Host, jump: str) -> Host:
    """The host that a jump names: the inventory's, or an alias of ~/.ssh/config."""
    match = JUMP.fullmatch(jump)
    if match is None or int(match[3] or 22) not in PORTS:
        raise UnreachableError(
            host.name,
            f"the jump {clean(jump)!r} is not [user@]host[:port]",
            remedy="set proxy_jump in the inventory, or ProxyJump in ~/.ssh/config",
        )
    user, name, port = match.groups()
    name = name.strip("[]")
    known = next((other for other in host.jump_hosts if other.name == name), Host(name=name))
    return replace(known, user=user or known.user, port=int(port) if port else known.port)
