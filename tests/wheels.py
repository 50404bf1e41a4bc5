"""Wheels for tests: real ones, made here, because the hosts of the lab reach no index."""

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from uv import find_uv_bin


def write_wheel(
    folder: Path, name: str, version: str, tag: str, files: Mapping[str, bytes]
) -> Path:
    """A wheel that installs `files`, path to content."""
    contents = {
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\n"
        f"Version: {version}\n".encode(),
        f"{name}-{version}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\n"
        f"Root-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    contents |= files
    record = f"{name}-{version}.dist-info/RECORD"
    lines = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in contents.items()]
    contents[record] = "\n".join([*lines, f"{record},,"]).encode() + b"\n"
    path = folder / f"{name}-{version}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for place, data in contents.items():
            entry = zipfile.ZipInfo(place)
            entry.external_attr = (0o100755 if "/scripts/" in place else 0o100644) << 16
            archive.writestr(entry, data)
    return path


def write_uv_wheel(folder: Path, tag: str) -> Path:
    """Our own uv as a wheel for some kind of machine."""
    program = Path(find_uv_bin()).read_bytes()
    return write_wheel(folder, "uv", "99.0", tag, {"uv-99.0.data/scripts/uv": program})


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
