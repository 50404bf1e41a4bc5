"""A folder with a manifest from one host: verified, whole or not at all.

No name from a host is a path here before it was checked, and no archive of a host is ever opened.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from sollol_tui.hosts.receiver import STALL_S
from sollol_tui.hosts.shell import quote
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import PIECE, Report, silent
from sollol_tui.hosts.tree import MAX_FILES, file_sha256
from sollol_tui.model.errors import CommandError, TransferError, UnreachableError
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes

MAX_MANIFEST: Final = 4 * 1024 * 1024
MANIFEST: Final = "manifest.json"
_TURN_POLL_S: Final = 0.2  # the other one is another process: there is no event to wait for
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


async def fetch_tree(
    connection: HostConnection,
    source: str,
    part: Path,
    *,
    publish: Callable[[Path], Path],
    max_bytes: int = 64 * 1024**3,
    report: Report = silent,
) -> Path:
    """Pulls the files that `source`/manifest.json names into the folder `part`, verifies size and
    sha256 of each, and gives it to `publish`, which completes it, moves it to its place and returns
    that. Two that fetch into the same `part` take turns. Raises TransferError. What had arrived
    whole when a fetch was interrupted is not fetched again; after any other failure nothing of
    `part` is left."""
    async with _turn(part):
        try:
            return await _fetch(connection, source, part, publish, max_bytes, report)
        except (UnreachableError, asyncio.CancelledError):
            raise
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
            raise


@asynccontextmanager
async def _turn(part: Path) -> AsyncIterator[None]:
    """Only one process at a time works on `part`; the kernel ends the turn of a dead one."""
    part.parent.mkdir(parents=True, exist_ok=True)
    lock = part.with_name(f"{part.name}.lock")
    while True:
        with lock.open("ab") as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_mine = lock.stat().st_ino == os.fstat(opened.fileno()).st_ino
            except (BlockingIOError, FileNotFoundError):  # the other one is at work, or just over
                is_mine = False
            if is_mine:
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
        await asyncio.sleep(_TURN_POLL_S)


async def _fetch(
    connection: HostConnection,
    source: str,
    part: Path,
    publish: Callable[[Path], Path],
    max_bytes: int,
    report: Report,
) -> Path:
    name = connection.host.name
    try:
        shown = await connection.run(
            f"head -c {MAX_MANIFEST + 1} {quote(source + '/' + MANIFEST)}", timeout_s=STALL_S
        )
    except CommandError as error:
        raise TransferError(name, f"has no manifest at {clean(source)}: {error.message}") from None
    files = read_manifest(name, shown.stdout, max_bytes)
    if part.is_symlink():
        part.unlink()
    part.mkdir(mode=0o700, exist_ok=True)
    missing = await asyncio.to_thread(_keep_whole, part, files)
    done = sum(file.size for file in files) - sum(file.size for file in missing)
    try:
        wanted = {file: part / file.name for file in missing}
        await fetch_files(connection, source, wanted, partial(_report_part, report, done))
        _write(part / MANIFEST, iter([shown.stdout]))
        publishing = asyncio.create_task(asyncio.to_thread(publish, part))
        try:
            return await asyncio.shield(publishing)
        finally:
            await asyncio.wait([publishing])  # a thread goes on when its task is cancelled
    except BrokenPipeError:
        raise TransferError(name, f"stops before it has sent {clean(source)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    name: str
    size: int
    sha256: str


def read_manifest(host: str, raw: bytes, max_bytes: int) -> list[ManifestFile]:
    """The files of a manifest, none of which can leave the folder it is put into."""
    if len(raw) > MAX_MANIFEST:
        raise TransferError(host, f"its manifest has more than {format_bytes(MAX_MANIFEST)}")
    try:
        listed = json.loads(raw)["files"]
        files = [
            ManifestFile(name=str(name), size=entry["size"], sha256=entry["sha256"])
            for name, entry in listed.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TransferError(host, "its manifest cannot be read") from None
    for file in files:
        if not _is_safe(file.name):
            raise TransferError(host, f"its manifest names {clean(file.name, limit=120)!r}")
        whole = isinstance(file.size, int) and not isinstance(file.size, bool)
        if not whole or file.size < 0 or not _SHA256.fullmatch(str(file.sha256)):
            raise TransferError(host, f"its manifest describes {file.name} wrongly")
    total = sum(file.size for file in files)
    if len(files) > MAX_FILES or total > max_bytes:
        raise TransferError(
            host,
            f"its folder has {len(files)} files and {format_bytes(total)}; at most {MAX_FILES} and "
            f"{format_bytes(max_bytes)} are taken",
        )
    return files


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        0 < len(name) <= 255
        and clean(name) == name
        and "\\" not in name
        and not path.is_absolute()
        and path.as_posix() == name
        and all(part not in ("..", ".") for part in path.parts)
        and name != MANIFEST
    )


def _report_part(report: Report, before: int, done: int, total: int) -> None:
    report(before + done, before + total)


def _keep_whole(part: Path, files: list[ManifestFile]) -> list[ManifestFile]:
    """The files that are not in `part` as the manifest says; removes everything else from it."""
    whole = {
        file.name
        for file in files
        if (path := part / file.name).is_file()
        and not path.is_symlink()
        and path.stat().st_size == file.size
        and file_sha256(path) == file.sha256
    }
    for folder, folders, names in os.walk(part, topdown=False):
        for name in (*names, *folders):
            path = Path(folder) / name
            if path.relative_to(part).as_posix() in whole:
                continue
            if path.is_dir() and not path.is_symlink():
                with suppress(OSError):  # something whole is in it
                    path.rmdir()
            else:
                path.unlink()
    return [file for file in files if file.name not in whole]


async def fetch_files(
    connection: HostConnection,
    source: str,
    files: Mapping[ManifestFile, Path],
    report: Report = silent,
) -> None:
    """Brings files of a folder to new places here. One `cat` for all: their sizes say where one
    ends and the next begins. Raises TransferError for the first that is not what it should be."""
    total, done = sum(file.size for file in files), 0
    report(0, total)
    names = "".join(f"cat -- {quote('./' + file.name)} || exit 1\n" for file in files)
    process = await connection.open(f"cd {quote(source)} && sh -s")
    try:
        await process.write(names.encode())
        await process.write_eof()
        for file, path in files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            digest, left = hashlib.sha256(), file.size
            with path.open("xb") as opened:
                path.chmod(0o600)
                while left:
                    try:
                        async with asyncio.timeout(STALL_S):
                            piece = await process.read(min(left, PIECE))
                    except TimeoutError:
                        raise TransferError(
                            connection.host.name, f"sends nothing of {file.name} for {STALL_S:g} s"
                        ) from None
                    if not piece:
                        break
                    await asyncio.to_thread(opened.write, piece)
                    digest.update(piece)
                    left -= len(piece)
                    done += len(piece)
                    report(done, total)
                opened.flush()
                await asyncio.to_thread(os.fsync, opened.fileno())
            if left or digest.hexdigest() != file.sha256:
                raise TransferError(
                    connection.host.name,
                    f"{file.name} is not what its manifest says",
                    remedy="another checkpoint or worker may have a good copy",
                )
    finally:
        await process.close()


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("xb") as opened:
        path.chmod(0o600)
        for piece in pieces:
            opened.write(piece)
        opened.flush()
        os.fsync(opened.fileno())
