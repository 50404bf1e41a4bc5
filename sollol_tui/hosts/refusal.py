"""Why a host could not be reached, as one sentence for each reason, with what to do about it."""

import errno
import re
import socket
from collections.abc import Sequence

import asyncssh

from sollol_tui.hosts.destination import Destination
from sollol_tui.hosts.journey import Journey
from sollol_tui.hosts.login import login_by_hand
from sollol_tui.model.errors import HostError, UnreachableError
from sollol_tui.model.inventory import Host
from sollol_tui.model.text import clean

_NO_SERVER = "accepts connections, but no SSH server answers there"
_OTHER_PORT = "is that the port of its sshd? A busy sshd drops logins too"


def too_slow(host: Host, limit_s: float, journey: Journey) -> UnreachableError:
    """How far the attempt had come when its time was over."""
    within, place, proxy = f"within {limit_s:g} s", journey.place, journey.proxy
    whose = f"its jump {clean(journey.jump)}: " if journey.jump else ""
    where = f"{clean(place.address)} port {place.port}" if place else ""
    if journey.speaks_ssh:
        said = f"the SSH server at {where} has not let us in {within}"
        remedy = "the machine may be overloaded; connect_timeout gives it longer"
    elif proxy is not None:
        said = f"no SSH server answers {within} through {proxy}"
        said += f": {proxy.complaint}" if proxy.complaint else ""
        remedy = "try it by hand, and mend ProxyCommand in ~/.ssh/config"
    elif journey.has_connected:
        said = f"{where} {_NO_SERVER} {within}"
        said += f" ({journey.dropped})" if journey.dropped else ""
        remedy = _OTHER_PORT
    else:
        address = place.address if place else host.address or host.name
        said = f"no answer from {clean(address)} {within}"
        said += f" through its jump {clean(journey.passed[-1].address)}" if journey.passed else ""
        remedy = "is it switched on and in this network? connect_timeout gives it longer"
    return UnreachableError(host.name, f"{whose}{said}", remedy=remedy)


def unreachable(
    host: Host, place: Destination, error: Exception, passed: Sequence[Destination]
) -> HostError:
    """`passed` are the jumps that led as far as the one that should have reached `place`."""
    where = f"{clean(place.address)} port {place.port}"
    if isinstance(error, asyncssh.ChannelOpenError) and passed:
        return _beyond_jump(host, where, error, passed)
    if isinstance(error, asyncssh.ConnectionLost | ConnectionResetError):
        reason = clean(getattr(error, "reason", "") or str(error), limit=200)
        return UnreachableError(host.name, f"{where} {_NO_SERVER} ({reason})", remedy=_OTHER_PORT)
    if isinstance(error, socket.gaierror | UnicodeError):
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
        remedy=f"`{login_by_hand(place, passed)} -v` shows more",
    )


def _beyond_jump(
    host: Host, where: str, error: asyncssh.ChannelOpenError, passed: Sequence[Destination]
) -> HostError:
    """The jump let us in, and does not lead on."""
    jump, reason = clean(passed[-1].address), clean(error.reason, limit=200)
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return UnreachableError(
            host.name,
            f"its jump {jump} lets nobody on to {where} ({reason})",
            remedy="AllowTcpForwarding and PermitOpen in the sshd_config there decide that",
        )
    return UnreachableError(
        host.name,
        f"its jump {jump} does not reach {where}: {reason}",
        remedy=f"`{login_by_hand(passed[-1], passed[:-1])}` opens a shell there to try from",
    )


def _error_number(error: Exception) -> int | None:
    """The errno, also of asyncio's "Multiple exceptions", which has none of its own."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\[Errno (\d+)\]", str(error))
    return int(found[1]) if found else None
