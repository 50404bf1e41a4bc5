"""Where the workers' package lies here, what it hashes to, and how it travels.

Nobody else knows both places: `remote/` of a checkout, `sollol_tui/_payload/remote` of a wheel.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sollol_tui.model.errors import StateError

PACKAGE: Final = "remote"
REQUIREMENTS: Final = "remote/worker.in"
LOCK: Final = "remote/worker.lock"
SELFCHECK: Final = "remote/selfcheck.py"
_OTHER_NAMES: Final = frozenset({"worker.in", "worker.lock", "py.typed"})


def payload_root() -> Path:
    """The folder that holds `remote/`: $SOLLOL_PAYLOAD, the wheel's own, or the checkout's."""
    package = Path(__file__).resolve().parent.parent
    named = os.environ.get("SOLLOL_PAYLOAD")
    places = [Path(named)] if named else [package / "_payload", package.parent]
    for place in places:
        if (place / REQUIREMENTS).is_file() and (place / LOCK).is_file():
            return place.absolute()
    raise StateError(
        f"the workers' programs are not at {' or '.join(map(str, places))}",
        remedy="install sollol-tui again"
        if not named
        else "SOLLOL_PAYLOAD must name the folder that holds remote/",
    )


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Relative paths and bytes, in the order of the paths. A checkout holds other things beside
    `remote/`; a folder made for workers travels as it is."""
    top = root / PACKAGE if (root / "pyproject.toml").exists() else root
    for path in sorted(top.rglob("*"), key=lambda path: path.as_posix()):
        wanted = path.suffix == ".py" or path.name in _OTHER_NAMES
        if wanted and path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root).as_posix(), path.read_bytes()


def payload_hash(root: Path) -> str:
    """16 hex digits over the sorted relative paths and the bytes."""
    digest = hashlib.sha256()
    for name, data in _files(root):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()[:16]


def payload_sums(root: Path) -> str:
    """The files as `sha256sum -c` reads them."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in _files(root))


def payload_tar(root: Path) -> bytes:
    """The files as a tar archive; equal files give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in _files(root):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o600
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
