"""What a folder is: which of its files can travel, in a fixed order, and what they hash to.

Refuses to send: nothing here knows a host.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from sollol_tui.model.errors import InputError
from sollol_tui.model.text import clean

MAX_FILES: Final = 10_000
Sha256 = Callable[[Path], str]
_SKIPPED: Final = frozenset({".git", ".cache", "__pycache__"})
_SMALL: Final = 64 * 1024
_THREADS: Final = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """`name` is its path in the folder; `path` is where the bytes are, links not yet followed."""

    name: str
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Tree:
    root: Path
    files: tuple[TreeFile, ...]

    @cached_property
    def sha256(self) -> str:
        """Over the relative paths and the contents of all files."""
        sums = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256(sums.encode()).hexdigest()

    @cached_property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def read_tree(
    root: Path, sha256: Sha256 | None = None, *, names: Collection[str] | None = None
) -> Tree:
    """The files of a folder in a fixed order (of all, those with these `names`), each hashed by
    `sha256`, several at a time; links are followed, because a model's cache is made of them. Raises
    InputError for what cannot travel."""
    if root.exists() and not root.is_dir():
        raise InputError.single(str(root), "is not a folder")
    with reading(root):
        found = sorted(file for file in _walk(root) if names is None or file[0] in names)
    if not found or len(found) > MAX_FILES:
        raise InputError.single(str(root), f"holds {len(found)} files; 1 to {MAX_FILES} can travel")
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = list(pool.map(sha256 or file_sha256, (path for _, path in found)))
    files = []
    for (name, path), digest in zip(found, sums, strict=True):
        with reading(path):
            files.append(TreeFile(name=name, path=path, size=path.stat().st_size, sha256=digest))
    return Tree(root=root, files=tuple(files))


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    def fail(error: OSError) -> None:
        raise error

    root = root.absolute()
    for folder, folders, names in os.walk(root, onerror=fail):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in names:
            path = Path(folder, name)
            relative = str(path)[len(str(root)) + 1 :]
            if clean(relative) != relative or "\\" in relative:
                raise InputError.single(str(root), f"has a file named {clean(relative)!r}")
            if path.is_file():
                yield relative, path


def file_sha256(path: Path) -> str:
    """Raises InputError when the file cannot be read."""
    with reading(path), path.open("rb", buffering=0) as opened:
        start = opened.read(_SMALL)
        if len(start) < _SMALL:  # file_digest makes a large buffer first
            return hashlib.sha256(start + opened.read()).hexdigest()
        opened.seek(0)
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What this machine cannot read is the fault of no host."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError.single(
            str(path), f"is gone or cannot be read: {reason}; put it back and submit again"
        ) from None
