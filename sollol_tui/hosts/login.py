"""The commands with which a person reaches a host by OpenSSH's own tools, told what the inventory
says. Host keys are checked as always, by the same files. Runs nothing."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sollol_tui.hosts.destination import Destination
from sollol_tui.hosts.hostkeys import DEFAULT_PORT
from sollol_tui.hosts.shell import quote
from sollol_tui.model.inventory import ConnectionKind, Host
from sollol_tui.model.names import JUMP
from sollol_tui.model.text import clean

_USUAL_SHELL = "/bin/sh"


def login_words(host: Host, known_hosts: Sequence[Path]) -> list[str]:
    """The words of `ssh`, or of a shell where the host is this machine. What the inventory does not
    say is left to ~/.ssh/config."""
    if host.connection is ConnectionKind.LOCAL:
        return [os.environ.get("SHELL") or _USUAL_SHELL]
    words = ["ssh", *_options(host, known_hosts)]
    if host.proxy_jump:
        words += ["-o", f"ProxyCommand={_through(host, known_hosts)}"]
    return [*words, "--", host.name]


def login_by_hand(place: Destination, passed: Sequence[Destination]) -> str:
    """A login at `place` through those that were `passed`, for a host that no inventory has."""
    which = ["-i", place.identities[0]] if place.identities else []
    return clean(quote("ssh", *which, *_way(place, passed), _account(place)), limit=400)


def copy_key_by_hand(place: Destination, passed: Sequence[Destination], key: str | None) -> str:
    """What makes `place` admit `key`; without one, whichever ssh-copy-id chooses."""
    which = [] if key is None else ["-i", key]
    return clean(quote("ssh-copy-id", *which, *_way(place, passed), _account(place)), limit=400)


def _way(place: Destination, passed: Sequence[Destination]) -> list[str]:
    jumps = ",".join(
        f"{_account(hop)}:{hop.port}" if hop.port != DEFAULT_PORT else _account(hop)
        for hop in passed
    )
    port = ["-p", str(place.port)] if place.port != DEFAULT_PORT else []
    return [*port, *(["-o", f"ProxyJump={jumps}"] if jumps else [])]


def _account(place: Destination) -> str:
    return f"{place.user}@{place.address}"


def _options(host: Host, known_hosts: Sequence[Path]) -> list[str]:
    options = ["-o", f"GlobalKnownHostsFile={_files(known_hosts)}"]
    if host.address is not None:
        options += ["-o", f"HostName={host.address}"]
    if host.port is not None:
        options += ["-p", str(host.port)]
    if host.user is not None:
        options += ["-l", host.user]
    if host.identity_file is not None:
        options += ["-i", host.identity_file]
    return options


def _through(host: Host, known_hosts: Sequence[Path]) -> str:
    """The ssh that carries the connection over the jumps: -J could not say what the inventory does
    about them."""
    *before, last = [hop.strip() for hop in (host.proxy_jump or "").split(",")]
    match = JUMP.fullmatch(last)
    user, name, port = match.groups() if match is not None else (None, last, None)
    name = name.strip("[]")
    jump = next((each for each in host.jump_hosts if each.name == name), Host(name=name))
    jump = replace(jump, user=user or jump.user, port=int(port) if port else jump.port)
    words = ["ssh", *_options(jump, known_hosts)]
    words += ["-J", ",".join(before)] if before else []
    # ssh reads a percent sign in this command as the beginning of a name of its own.
    return f"{quote(*words).replace('%', '%%')} -W '[%h]:%p' -- {quote(name)}"


def _files(known_hosts: Sequence[Path]) -> str:
    """Ours beside the machine's own; ssh reads the user's in any case."""
    return " ".join(f'"{file}"' for file in ("/etc/ssh/ssh_known_hosts", *known_hosts))
