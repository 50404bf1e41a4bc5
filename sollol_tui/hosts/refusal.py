"""Why a host could not be reached, as one sentence for each reason, with what to do about it."""

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh

from sollol_tui.hosts.destination import Destination
from sollol_tui.model.errors import AuthenticationError, HostError, UnreachableError
from sollol_tui.model.inventory import Host
from sollol_tui.model.text import clean


def too_slow(host: Host, limit_s: float) -> UnreachableError:
    return UnreachableError(
        host.name,
        f"no answer from {clean(host.address or host.name)} within {limit_s:g} s",
        remedy="is it switched on and in this network? connect_timeout gives it longer",
    )


def not_admitted(host: Host, place: Destination) -> HostError:
    files = place.identities or tuple(
        str(path) for path in sorted((Path.home() / ".ssh").glob("id_*")) if path.suffix != ".pub"
    )
    who = f"{clean(place.user)}@{clean(place.address)}"
    tried = [f"key {clean(file)}" for file in files]
    tried.append("the ssh-agent" if os.environ.get("SSH_AUTH_SOCK") else "no ssh-agent")
    for file in files:
        if _has_passphrase(file):
            return AuthenticationError(
                host.name,
                f"{who} does not admit us: the key {clean(file)} has a passphrase, and the "
                f"ssh-agent does not hold it; tried: {', '.join(tried)}",
                remedy=f"ssh-add {clean(file)}",
            )
    return AuthenticationError(
        host.name,
        f"{who} does not admit us; tried: {', '.join(tried)}",
        remedy=f"ssh-copy-id {who}, or load the key into the agent with ssh-add",
    )


def _has_passphrase(file: str) -> bool:
    try:
        asyncssh.read_private_key(os.path.expanduser(file))  # noqa: PTH111
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        return "passphrase" in str(error).lower()
    except OSError:
        pass
    return False


@contextmanager
def explained(host: Host, place: Destination) -> Iterator[None]:
    """Turns what a connection attempt raises inside into an UnreachableError."""
    try:
        yield
    except (asyncssh.Error, OSError) as error:
        raise unreachable(host, place, error) from None


def unreachable(host: Host, place: Destination, error: Exception) -> HostError:
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
