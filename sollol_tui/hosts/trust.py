"""Shows a host's key before anyone trusts it, and writes down the keys that the user accepted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sollol_tui.model.inventory import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """`line` is as a known_hosts file has it."""

    algorithm: str
    fingerprint: str
    line: str


async def scan_key(
    host: Host, known_hosts: Sequence[Path] = (), *, timeout_s: float | None = None
) -> HostKey:
    """The key that `host` shows, fetched without logging in. `known_hosts` matter only to jumps."""
    raise NotImplementedError


def trust(keys: Sequence[HostKey], file: Path, *, replace: bool = False) -> None:
    """Adds the keys to `file`. Raises HostKeyError when it has another key for that name, unless
    `replace`."""
    raise NotImplementedError
