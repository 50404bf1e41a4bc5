"""Shows a host's key before anyone trusts it, and writes down the keys that the user accepted.

Never logs in, and never lets a changed key take the place of another unless told to.
"""

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sollol_tui.hosts.hostkeys import read_known_keys
from sollol_tui.hosts.journey import Journey
from sollol_tui.hosts.ssh import bounded, open_route, shown_key
from sollol_tui.model.errors import HostKeyError, UnreachableError
from sollol_tui.model.inventory import ConnectionKind, Host

_MARKERS: Final = ("@", "#")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """`line` is as a known_hosts file has it; `known` holds the fingerprints that the files have
    for this host already."""

    host: str
    algorithm: str
    fingerprint: str
    line: str
    known: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        return self.fingerprint in self.known

    @property
    def has_changed(self) -> bool:
        return bool(self.known) and not self.is_known


async def scan_key(
    host: Host, known_hosts: Sequence[Path] = (), *, timeout_s: float | None = None
) -> HostKey:
    """The key that `host` shows now, fetched without logging in there. Raises UnreachableError."""
    if host.connection is ConnectionKind.LOCAL:
        raise UnreachableError(host.name, "is this machine; it needs no host key")
    limit = host.connect_timeout_s if timeout_s is None else timeout_s
    async with Journey() as journey, bounded(host, limit, journey):
        place = await open_route(host, known_hosts, journey)
        key = await shown_key(host, place, journey)
    if key is None:
        raise UnreachableError(host.name, f"{place.name} shows no host key")
    known = read_known_keys(place.known_hosts, place.name)
    return HostKey(
        host=host.name,
        algorithm=key.get_algorithm(),
        fingerprint=key.get_fingerprint(),
        line=f"{place.name} {key.export_public_key().decode().strip()}",
        known=tuple(sorted(trusted.get_fingerprint() for trusted in known.trusted)),
    )


def trust(keys: Sequence[HostKey], file: Path, *, replace: bool = False) -> None:
    """Adds the keys to `file`, all or none. Raises HostKeyError for a host that is known by another
    key, unless `replace`: then `file` forgets that one."""
    for key in keys:
        if key.has_changed and not replace:
            raise HostKeyError(
                key.host,
                f"is known by {', '.join(key.known)} and now shows {key.fingerprint}",
                remedy="only when you know why it changed, say --replace; a key in "
                "~/.ssh/known_hosts is yours to remove with ssh-keygen -R",
            )
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        old = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
        new = _laid_over(old, keys)
        if new != old:
            _write(file, "".join(f"{line}\n" for line in new))
            os.fsync(folder)
    finally:
        os.close(folder)


def _laid_over(lines: Sequence[str], keys: Sequence[HostKey]) -> list[str]:
    """The lines with the keys' own in place of any other of the same host."""
    wanted = {key.line.split(" ", 1)[0]: " ".join(key.line.split()[:3]) for key in keys}
    kept = [
        line
        for line in lines
        if line.startswith(_MARKERS)
        or line.split(" ", 1)[0] not in wanted
        or line == wanted[line.split(" ", 1)[0]]
    ]
    return [*kept, *(line for line in wanted.values() if line not in kept)]


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o600), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    temporary.rename(file)
