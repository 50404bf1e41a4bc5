"""Files and folders to one host: content-addressed, verified, whole or not at all.

Everything travels as plain bytes through a command's channel, so no SFTP subsystem is needed. What
an interrupted transfer left there does not travel again. Memory stays bounded whatever the size.
"""

import asyncio
import re
import tarfile
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final

from sollol_tui.hosts.receiver import FILE, STALL_S, TREE, Receiver, receiver
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.tree import Tree, TreeFile, file_sha256, reading
from sollol_tui.model.errors import InputError, TransferError
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes

__all__ = ["Report", "file_sha256", "send_file", "send_tree", "silent"]

Report = Callable[[int, int], None]  # bytes done, bytes in all

PIECE: Final = 4 * 1024 * 1024
BIG: Final = 4 * 1024 * 1024  # bytes of a file that goes on at its offset instead of anew
_SUMS: Final = "sums"


def silent(done: int, total: int) -> None:
    pass


async def send_file(
    connection: HostConnection,
    source: Path,
    target: str,
    sha256: str,
    *,
    part: str = "",
    mode: int = 0o600,
    report: Report = silent,
) -> bool:
    """Puts `source` at the absolute path `target`; False when it was there. Until it is whole it
    lies at `part`, beside `target` by default, and goes on there after an interruption. Raises
    TransferError, and InputError when `source` cannot be read or is not what `sha256` says."""
    with reading(source):
        total = source.stat().st_size
    variables = {
        "target": target,
        "part": part or f"{target}.part",
        "sha256": sha256,
        "mode": f"{mode:o}",
    }
    for _ in range(2):  # what an earlier transfer left there may be damaged
        async with receiver(connection, FILE, total, variables) as far:
            answer = await far.answer()
            if answer == "there":
                return False
            match = re.fullmatch(r"offset (\d{1,18})", answer)
            if match is None or int(match[1]) > total:
                raise far.nonsense(answer)
            offset = int(match[1])
            await _send(far, _pieces(source, offset, total), offset, total, report)
            answer = await far.answer()
            if answer == "received":
                return True
        if answer != "damaged":
            raise far.nonsense(answer)
        await _check_unchanged([(source, sha256)])
    raise _damaged(connection, source)


async def send_tree(
    connection: HostConnection, tree: Tree, target: str, *, report: Report = silent
) -> bool:
    """Puts a folder at the absolute path `target`; False when it was there, which its
    content-addressed name and its last rename vouch for. Files that an interrupted transfer left
    there whole do not travel again. Raises TransferError and InputError as `send_file` does."""
    for _ in range(2):
        part = f"{target}.part"
        async with receiver(connection, TREE, tree.size, {"target": target, "part": part}) as far:
            if (missing := await _missing(far, tree)) is None:
                return False
            done = tree.size - sum(file.size for file in missing)
            small = [file for file in missing if file.size < BIG]
            for file in (file for file in missing if file.size >= BIG):
                await send_file(
                    connection,
                    file.path,
                    f"{part}/tree/{file.name}",
                    file.sha256,
                    part=f"{part}/{file.sha256}",
                    report=partial(_report_part, report, done, tree.size),
                )
                done += file.size
            await _send(far, _archive(small), done, tree.size, report)
            answer = await far.answer()
            if answer == "received":
                return True
        if answer != "damaged":
            raise far.nonsense(answer)
        await _check_unchanged([(file.path, file.sha256) for file in small])
    raise _damaged(connection, tree.root)


async def _missing(far: Receiver, tree: Tree) -> list[TreeFile] | None:
    """The files that are not there whole; None when the folder is there."""
    there: dict[str, str] = {}
    for _ in range(2 * len(tree.files) + 1):  # as many again may be under way
        answer = await far.answer()
        if answer == "there":
            return None
        if answer == "ready":
            return [file for file in tree.files if there.get(file.name) != file.sha256]
        match = re.fullmatch(r"([0-9a-f]{64})  \./(.+)", answer)
        if match is None:
            raise far.nonsense(answer)
        there[match[2]] = match[1]
    raise far.nonsense(answer)


def _report_part(report: Report, before: int, total: int, done: int, _: int) -> None:
    report(before + done, total)


async def _check_unchanged(files: Iterable[tuple[Path, str]]) -> None:
    """Raises InputError for the first file that is no longer what its sum says."""
    for path, sha256 in files:
        if await asyncio.to_thread(file_sha256, path) != sha256:
            raise _changed(path)


def _changed(path: Path) -> InputError:
    return InputError.single(str(path), "changed while it was sent; submit again")


def _damaged(connection: HostConnection, source: Path) -> TransferError:
    return TransferError(
        connection.host.name,
        f"{clean(source.name)} arrives damaged",
        remedy="check the host's memory and disk",
    )


async def _archive(files: list[TreeFile]) -> AsyncGenerator[memoryview]:
    """The files as a tar stream of `tree/...`, their sums first."""
    blocks = _blocks(files)
    while block := await asyncio.to_thread(next, blocks, None):
        yield memoryview(block)


def _blocks(files: list[TreeFile]) -> Iterator[bytearray]:
    sums = "".join(f"{file.sha256}  {file.name}\n" for file in files).encode()
    block = bytearray(_header(_SUMS, len(sums)) + sums + _padding(len(sums)))
    for file in files:
        block += _header(f"tree/{file.name}", file.size)
        block += _content(file)
        block += _padding(file.size)
        if len(block) >= PIECE:
            yield block
            block = bytearray()
    block += bytes(2 * tarfile.BLOCKSIZE)
    yield block


def _content(file: TreeFile) -> bytes:
    with reading(file.path), file.path.open("rb") as opened:
        content = opened.read(file.size + 1)
    if len(content) != file.size:
        raise _changed(file.path)
    return content


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


async def _pieces(path: Path, offset: int, size: int) -> AsyncGenerator[memoryview]:
    """What follows `offset`; the next piece is read while the last one travels. A piece is good
    until the next one is asked for. Raises InputError when there is less than `size`."""
    with reading(path):
        file = path.open("rb", buffering=0)
    with file:
        file.seek(offset)
        spare, filling = bytearray(PIECE), bytearray(PIECE)
        reader = asyncio.create_task(asyncio.to_thread(file.readinto, filling))
        try:
            while offset < size:
                with reading(path):
                    count = min(await reader or 0, size - offset)
                if not count:
                    raise _changed(path)
                full, filling, spare = filling, spare, filling
                reader = asyncio.create_task(asyncio.to_thread(file.readinto, filling))
                yield memoryview(full)[:count]
                offset += count
        finally:
            await asyncio.wait([reader])  # its thread still has the file


async def _send(
    far: Receiver, pieces: AsyncGenerator[memoryview], done: int, total: int, report: Report
) -> None:
    """Sends what remains of `total` bytes. What a receiver that gave up has to say is not lost."""
    report(done, total)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                async with asyncio.timeout(STALL_S):
                    await far.process.write(piece)
                done = min(done + len(piece), total)
                report(done, total)
                if far.complains:
                    break
        await far.process.write_eof()
    except BrokenPipeError:
        pass
    except TimeoutError:
        raise TransferError(
            far.host,
            f"takes no bytes for {STALL_S:g} s after {format_bytes(done)} of {format_bytes(total)}",
            remedy="check the network and the disk there; the transfer goes on where it stopped",
        ) from None
