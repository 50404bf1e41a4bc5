"""What a dataset is made of: one file, the files of a folder, those that a pattern names. Standard
library only; opens none of them but to tell their content by its hash.

The order is that of the files' paths below the root, so it is the same on every machine.
"""

import glob
import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from remote.data.rows import KINDS

MAGIC = re.compile(r"[*?[]")
SKIPPED = ("__pycache__",)  # and whatever begins with a dot
BY_CONTENT = re.compile(r"[0-9a-f]{64}")


class SourceError(ValueError):
    """There is no dataset at this place; the message says what stands there instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files of a dataset: `names` are their paths below `root`, in order."""

    root: Path
    names: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        return [self.root / name for name in self.names]

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def title(self) -> str:
        return (
            self.names[0] if len(self.names) == 1 else f"{self.root.name} ({len(self.names)} files)"
        )

    def shown(self, file: int) -> str | None:
        """How a file is named in a message: not at all where it is the only one."""
        return self.names[file] if len(self.names) > 1 else None


def find_source(place: str | Path) -> Source:
    """The files at a place. A folder means all of its files that hold rows, if they are of one
    kind. Raises SourceError."""
    path = Path(place)
    if path.is_dir():
        found = _files_of_rows(path)
        if not BY_CONTENT.fullmatch(path.parent.name):  # else they were chosen elsewhere
            _check_one_kind(path, found)
        return Source(root=path, names=found)
    if not path.exists() and MAGIC.search(str(place)):
        return _matching(str(place))
    if path.exists() and not path.is_file():
        raise SourceError("this is a pipe or a device; rows are read from files")
    return Source(root=path.parent, names=(path.name,))


def content_hash(source: Source) -> str:
    """sha256 of the one file; of several, over the list of their hashes and names. Raises
    OSError."""
    if len(source.names) == 1:
        return _sha256(source.files[0])
    pairs = zip(source.files, source.names, strict=True)
    lines = "".join(f"{_sha256(file)}  {name}\n" for file, name in pairs)
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def named_hash(source: Source) -> str | None:
    """The content's hash as the folder tells it in which a worker keeps what it was sent."""
    folders = (source.root, source.root.parent)
    return next((f.name for f in folders if BY_CONTENT.fullmatch(f.name)), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_of_rows(folder: Path) -> tuple[str, ...]:
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_skipped(name)]
        paths = [Path(where, name) for name in names if not _is_skipped(name)]
        found += [path for path in paths if path.suffix.lower() in KINDS and path.is_file()]
    if not found:
        raise SourceError(f"the folder holds no file of rows; known kinds are {', '.join(KINDS)}")
    return tuple(sorted(path.relative_to(folder).as_posix() for path in found))


def _check_one_kind(folder: Path, names: tuple[str, ...]) -> None:
    kinds = Counter(Path(name).suffix.lower() for name in names).most_common()
    if len(kinds) > 1:
        said = " and ".join(f"{count} {kind}" for kind, count in kinds)
        pattern = folder / "**" / f"*{kinds[0][0]}"
        raise SourceError(
            f"the folder holds {said} files; say which with a pattern such as {pattern}"
        )


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED


def _matching(pattern: str) -> Source:
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if MAGIC.search(part):
            break
        fixed.append(part)
    root = Path(*fixed)
    found = map(Path, glob.iglob(pattern, recursive=True))  # noqa: PTH207 - a pattern may be absolute
    names = sorted({path.relative_to(root).as_posix() for path in found if path.is_file()})
    if not names:
        raise SourceError("there is no file that matches this pattern")
    return Source(root=root, names=tuple(names))
