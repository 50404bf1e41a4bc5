"""Files and folders to one host: content-addressed, verified, whole or not at all.

Everything travels as plain bytes through a command's channel, so no SFTP subsystem is needed.
Memory stays bounded whatever the size.
"""

import asyncio
import hashlib
import os
import re
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sollol_tui.hosts.shell import assignments
from sollol_tui.hosts.ssh import HostConnection, RemoteProcess
from sollol_tui.model.errors import HostError, InputError, TransferError
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.model.units import format_bytes

Report = Callable[[int, int], None]  # bytes done, bytes in all

STALL_S: Final = 60.0  # how long one step of a transfer may stand still
MAX_FILES: Final = 10_000
PIECE: Final = 1024 * 1024
_SKIPPED: Final = frozenset({".git", ".cache", "__pycache__"})

# Both scripts hold a lock while they write: two coordinators that send the same file take turns.
# It is a file of its own, because a program that anyone holds open for writing cannot be started.
_RECEIVE_FILE: Final = r"""
umask 077
mkdir -p -- "${target%/*}" || exit 1
has() { [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$sha256  -" ]; }
if has "$target"; then echo there; exit 0; fi
exec 9>>"$target.lock" || exit 1
command -v flock >/dev/null && flock 9
if has "$target"; then echo there; exit 0; fi
part=$target.part
size=0; [ -f "$part" ] && size=$(wc -c <"$part")
if [ "$size" -gt "$total" ]; then size=0; : >"$part" || exit 1; fi
echo "offset $((size))"
cat >>"$part" || exit 1
if ! has "$part"; then rm -f -- "$part"; echo damaged; exit 0; fi
chmod "$mode" "$part" || exit 1
sync "$part" 2>/dev/null
mv -f -- "$part" "$target" && rm -f -- "$target.lock" && echo received
"""
_RECEIVE_TREE: Final = r"""
umask 077
mkdir -p -- "${target%/*}" || exit 1
if [ -d "$target" ]; then echo there; exit 0; fi
exec 9>>"$target.lock" || exit 1
command -v flock >/dev/null && flock 9
if [ -d "$target" ]; then echo there; exit 0; fi
part=$target.part
rm -rf -- "$part" && mkdir -- "$part" || exit 1
echo 'offset 0'
tar -xf - -C "$part" -o || exit 1
cd "$part" || exit 1
sha256sum -c .sums >/dev/null 2>&1 || { cd /; rm -rf -- "$part"; echo damaged; exit 0; }
rm -f .sums; cd /; sync "$part" 2>/dev/null
mv -- "$part" "$target" && rm -f -- "$target.lock" && echo received
"""


def silent(done: int, total: int) -> None:
    pass


async def send_file(
    connection: HostConnection,
    source: Path,
    target: str,
    sha256: str,
    *,
    mode: int = 0o600,
    report: Report = silent,
) -> bool:
    """Puts `source` at the absolute path `target`; False when it was there. Goes on where an
    interrupted transfer stopped. Raises TransferError, and InputError when `source` cannot be
    read."""
    with _reading(source):
        total = source.stat().st_size
    variables = {
        "target": target,
        "sha256": sha256,
        "total": str(total),
        "mode": f"{mode:o}",
    }
    for last in (False, True):
        async with _receiver(connection, _RECEIVE_FILE, variables) as process:
            answer = await _answer(connection, process, STALL_S + total / PIECE)
            if answer == "there":
                return False
            offset = _offset(connection, answer, total)
            pieces = _pieces(source, offset)
            await _send(connection, process, pieces, offset, total, report)
            if await _answer(connection, process, STALL_S + total / PIECE) == "received":
                return True
        if last:
            raise TransferError(
                connection.host.name,
                f"{clean(source.name)} arrives damaged",
                remedy="did the file change meanwhile? else check the host's memory and disk",
            )
    raise AssertionError("unreachable")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What this machine cannot read is the fault of no host."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError.single(
            str(path), f"is gone or cannot be read: {reason}; put it back and submit again"
        ) from None


@dataclass(frozen=True, slots=True)
class _TreeFile:
    name: str
    path: Path
    size: int


def _tree_files(root: Path) -> list[_TreeFile]:
    """The files of a folder in a fixed order; links are followed, because a model's cache is made
    of them. Raises InputError for what cannot travel."""
    if root.exists() and not root.is_dir():
        raise InputError.single(str(root), "is not a folder")
    with _reading(root):
        found = list(_walk(root))
    if not found or len(found) > MAX_FILES:
        raise InputError.single(str(root), f"holds {len(found)} files; 1 to {MAX_FILES} can travel")
    return sorted(found, key=lambda file: file.name)


def _walk(root: Path) -> Iterator[_TreeFile]:
    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=fail):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in names:
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            if relative in (".sums",) or clean(relative) != relative or "\\" in relative:
                raise InputError.single(str(root), f"has a file named {clean(relative)!r}")
            if path.is_file():
                yield _TreeFile(relative, path, path.stat().st_size)


def file_sha256(path: Path) -> str:
    """Raises InputError when the file cannot be read."""
    with _reading(path), path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sums(files: list[_TreeFile]) -> str:
    return "".join(f"{file_sha256(file.path)}  {file.name}\n" for file in files)


def tree_hash(path: Path) -> str:
    """sha256 over the relative paths and the contents of a folder's files."""
    return hashlib.sha256(_sums(_tree_files(path)).encode()).hexdigest()


async def send_tree(
    connection: HostConnection, source: Path, target: str, *, report: Report = silent
) -> bool:
    """Puts the folder `source` at the absolute path `target`; False when it was there, which its
    content-addressed name and its last rename vouch for. Raises TransferError."""
    files = await asyncio.to_thread(_tree_files, source)
    total = sum(file.size for file in files)
    async with _receiver(connection, _RECEIVE_TREE, {"target": target}) as process:
        answer = await _answer(connection, process, STALL_S + total / PIECE)
        if answer == "there":
            return False
        _offset(connection, answer, total)
        sums = await asyncio.to_thread(_sums, files)
        await _send(connection, process, _archive(files, sums), 0, total, report)
        if await _answer(connection, process, STALL_S + total / PIECE) != "received":
            raise TransferError(
                connection.host.name,
                f"the folder {clean(source.name)} arrives damaged",
                remedy="did it change meanwhile? else check the host's memory and disk",
            )
    return True


def _archive(files: list[_TreeFile], sums: str) -> Iterator[bytes]:
    """The folder as a tar stream, its checksums first."""
    yield _header(".sums", len(sums.encode()))
    yield _padded(sums.encode())
    for file in files:
        yield _header(file.name, file.size)
        sent = 0
        for piece in _pieces(file.path):
            yield piece
            sent += len(piece)
        if sent != file.size:
            raise InputError.single(str(file.path), "changed while it was sent; send it again")
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _pieces(path: Path, offset: int = 0) -> Iterator[bytes]:
    with _reading(path):
        file = path.open("rb")
    with file:
        while True:
            with _reading(path):
                file.seek(offset)
                piece = file.read(PIECE)
            if not piece:
                return
            yield piece
            offset += len(piece)


@asynccontextmanager
async def _receiver(
    connection: HostConnection, text: str, variables: Mapping[str, str]
) -> AsyncIterator[RemoteProcess]:
    process = await connection.open(f"{assignments(variables)}; {text}")
    try:
        yield process
    finally:
        await process.close()


async def _send(
    connection: HostConnection,
    process: RemoteProcess,
    pieces: Iterator[bytes],
    done: int,
    total: int,
    report: Report,
) -> None:
    """Sends what remains of `total` bytes. What a receiver that gave up has to say is not lost."""
    report(done, total)
    try:
        while piece := await asyncio.to_thread(next, pieces, b""):
            async with asyncio.timeout(STALL_S):
                await process.write(piece)
            done = min(done + len(piece), total)
            report(done, total)
        await process.write_eof()
    except BrokenPipeError:
        pass
    except TimeoutError:
        raise TransferError(
            connection.host.name,
            f"takes no bytes for {STALL_S:g} s after {format_bytes(done)} of {format_bytes(total)}",
            remedy="check the network and the disk there; the transfer goes on where it stopped",
        ) from None


async def _answer(connection: HostConnection, process: RemoteProcess, timeout_s: float) -> str:
    """The receiver's next word. Raises TransferError with its complaint when it has none."""
    try:
        async with asyncio.timeout(timeout_s):
            line = await process.readline()
            if line:
                return clean(line, limit=80)
            await process.wait()
    except TimeoutError:
        raise TransferError(
            connection.host.name, f"no answer to a transfer within {timeout_s:.0f} s"
        ) from None
    complaint = clean_lines(process.error_output, limit=300)
    raise transfer_error(connection.host.name, next(iter(complaint), "the receiver ended early"))


def transfer_error(host: str, complaint: str) -> HostError:
    """A full disk is the one reason that deserves its own remedy."""
    if "No space left" in complaint or "quota" in complaint.lower():
        return TransferError(host, f"no space left: {complaint}", remedy="free some on that disk")
    return TransferError(host, f"cannot store what is sent: {complaint}")


def _offset(connection: HostConnection, answer: str, total: int) -> int:
    match = re.fullmatch(r"offset (\d{1,18})", answer)
    if match is None or int(match[1]) > total:
        raise TransferError(connection.host.name, f"answers {answer!r} to a transfer")
    return int(match[1])
