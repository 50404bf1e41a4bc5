"""Files and folders to and from one host: content-addressed, verified, whole or not at all."""

from collections.abc import Callable
from pathlib import Path

from sollol_tui.hosts.ssh import HostConnection

Report = Callable[[int, int], None]  # bytes done, bytes in all


async def send_file(
    connection: HostConnection, source: Path, target: str, sha256: str, *, report: Report
) -> bool:
    """Puts `source` at the absolute path `target`; False when it was there. Goes on with what an
    interrupted transfer left. Raises TransferError."""
    raise NotImplementedError


def tree_hash(path: Path) -> str:
    """sha256 over the relative paths and the contents of a folder's files."""
    raise NotImplementedError


async def send_tree(
    connection: HostConnection, source: Path, target: str, *, report: Report
) -> bool:
    """Puts the folder `source` at the absolute path `target`; False when it was there."""
    raise NotImplementedError


async def fetch_tree(
    connection: HostConnection,
    source: str,
    target: Path,
    *,
    max_bytes: int = 64 * 1024**3,
    report: Report = lambda done, total: None,
) -> None:
    """Pulls a folder that has a manifest.json (`{"files": {name: {"sha256": .., "size": ..}}}`) and
    verifies every file of it. Raises TransferError and leaves nothing at `target`."""
    raise NotImplementedError
