"""A teacher's scores on one host: which shards lie in a folder, and one of them brought here,
verified. Makes none, and trusts no name that a host says."""

import re
from pathlib import Path
from typing import Final

from sollol_tui.hosts.fetch import ManifestFile, fetch_files
from sollol_tui.hosts.receiver import STALL_S
from sollol_tui.hosts.shell import quote
from sollol_tui.hosts.ssh import HostConnection

KEY: Final = re.compile(r"[0-9a-f]{32}")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
NAME: Final = re.compile(r"\d{6}\.scores")
MOST_BYTES: Final = 4 * 1024**3  # of a shard


async def list_shards(connection: HostConnection, folder: str) -> set[str]:
    """The names of the shards that lie in a folder; none where there is no folder."""
    listed = await connection.run(
        f"ls -f -- {quote(folder)} 2>/dev/null", timeout_s=STALL_S, check=False
    )
    return set(filter(NAME.fullmatch, listed.stdout.decode(errors="replace").splitlines()))


async def fetch_file(
    connection: HostConnection, folder: str, name: str, size: int, sha256: str, target: Path
) -> None:
    """Brings `folder`/`name` to `target`, whole or not at all. Raises TransferError when it is not
    there, or not what size and sum say."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    file = ManifestFile(name=name, size=size, sha256=sha256)
    try:
        await fetch_files(connection, folder, {file: part})
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.rename(target)
