"""Which host keys a host may show: the known_hosts files, looked up by the host's name alone.

Never accepts a key that is not in a file. An address that another name once had vouches for nobody.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from sollol_tui.hosts.shell import quote
from sollol_tui.model.errors import HostKeyError
from sollol_tui.model.text import clean

DEFAULT_PORT = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKeys:
    """What the files say about one name, as asyncssh takes it."""

    name: str
    trusted: tuple[asyncssh.SSHKey, ...]
    authorities: tuple[asyncssh.SSHKey, ...]
    revoked: tuple[asyncssh.SSHKey, ...]

    def as_argument(
        self,
    ) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
        return list(self.trusted), list(self.authorities), list(self.revoked)


def known_name(address: str, port: int) -> str:
    """How known_hosts files write a host: bare at port 22, else `[address]:port`."""
    return address if port == DEFAULT_PORT else f"[{address}]:{port}"


def read_known_keys(files: Sequence[Path], name: str) -> KnownKeys:
    """The keys of `name` in all of the files that exist. A line that cannot be read is passed
    over, as ssh does."""
    known = asyncssh.SSHKnownHosts()
    for file in files:
        try:
            text = file.read_text("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        for line in text.splitlines():
            try:
                known.load(line)
            except ValueError:
                continue
    trusted, authorities, revoked, *_ = known.match(name, "", None)
    return KnownKeys(
        name=name,
        trusted=tuple(trusted),
        authorities=tuple(authorities),
        revoked=tuple(revoked),
    )


class KeyWitness(asyncssh.SSHClient):
    """Keeps the key that asyncssh found in no file, and refuses it. `authority` is one that signed
    the host's key."""

    def __init__(self, refused: asyncssh.SSHKey | None = None) -> None:
        self.refused = refused
        self.authority: asyncssh.SSHKey | None = None
        self._connection: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = conn

    @property
    def has_heard_ssh(self) -> bool:
        """Whether the other side has said that it is an SSH server."""
        return bool(self._connection and self._connection.get_extra_info("server_version"))

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        self.refused = key
        return False

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.authority = key
        return False


def host_key_error(
    host: str, known: KnownKeys, seen: KeyWitness, reason: str, by_hand: str = ""
) -> HostKeyError:
    """Why the host's key was refused, with every fingerprint that a person needs to decide.
    `by_hand` logs in on a host that the inventory does not have, and so cannot be trusted here."""
    if "revoked" in reason:
        return HostKeyError(
            host,
            f"the host key of {known.name} is marked as revoked",
            remedy="do not use this host until its owner has given it a new key",
        )
    if seen.authority is not None:
        return HostKeyError(
            host,
            f"the host key of {known.name} is signed by an authority that is unknown: "
            f"{_describe(seen.authority)}",
            remedy="compare it with the authority's own, then put a line with @cert-authority and "
            "its public key into ~/.ssh/known_hosts",
        )
    if seen.refused is None and not known.trusted:
        return HostKeyError(
            host,
            f"the host certificate of {known.name} is not valid: {clean(reason, limit=200)}",
            remedy="ask whoever signs the keys of your hosts",
        )
    fingerprint = (
        _describe(seen.refused) if seen.refused is not None else "of another kind than before"
    )
    if known.trusted:
        before = ", ".join(sorted(_describe(key) for key in known.trusted))
        return HostKeyError(
            host,
            f"the host key of {known.name} has CHANGED: it was {before} and is now {fingerprint}",
            remedy="somebody may be in between; only when you know why it changed: "
            + (
                f"ssh-keygen -R {quote(known.name)}, then {by_hand}"
                if by_hand
                else f"sollol hosts trust {host} --replace"
            ),
        )
    return HostKeyError(
        host,
        f"the host key of {known.name} is unknown: it shows {fingerprint}",
        remedy="compare it with the machine's own, then: "
        + (by_hand or f"sollol hosts trust {host}"),
    )


def _describe(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def user_files(configured: object) -> list[Path]:
    """The known_hosts files of ssh itself; `configured` is UserKnownHostsFile. `none` means no file
    of the user's, never no check."""
    if isinstance(configured, list | tuple) and configured:
        return [Path(os.path.expanduser(str(name))) for name in configured]  # noqa: PTH111
    if isinstance(configured, list):
        return []
    return [Path.home() / ".ssh" / "known_hosts", Path("/etc/ssh/ssh_known_hosts")]
