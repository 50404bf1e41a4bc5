"""Inventories as they were parsed before: what the same parser made of the same bytes.

Reading YAML and checking it takes longer than all else that `sollol status` does. Only whole, good
inventories are kept; whatever is wrong with a kept one, it is parsed anew.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sollol_tui.model.inventory import (
    ConnectionKind,
    Host,
    Inventory,
    Limits,
    Network,
    Packages,
    TorchBackend,
)

_MODEL: Final = Path(__file__).parent / "model"
_PARSER: Final = (
    *("inventory.py", "inventory_file.py", "inventory_settings.py"),
    *("document.py", "names.py", "patterns.py", "units.py"),
)


def recall(folder: Path, raw: bytes, file: str) -> Inventory | None:
    """The inventory that was kept for these bytes of this file, if any."""
    try:
        kept = json.loads(_place(folder, file).read_bytes())
        return _inventory(kept["inventory"]) if kept["of"] == _fingerprint(raw, file) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep(folder: Path, raw: bytes, inventory: Inventory) -> None:
    """Keeps an inventory in place of the one that its file said before. A folder that cannot be
    written costs time at the next start, and nothing else."""
    place = _place(folder, inventory.file)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    text = json.dumps({"of": _fingerprint(raw, inventory.file), "inventory": asdict(inventory)})
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_text(text)
        temporary.replace(place)


def _place(folder: Path, file: str) -> Path:
    return folder / f"{hashlib.sha256(file.encode()).hexdigest()[:16]}.json"


def _fingerprint(raw: bytes, file: str) -> str:
    """Changes with the bytes, with where they lie, and with the code that reads them."""
    parts = [file.encode(), raw]
    parts += [(_MODEL / name).read_bytes() for name in _PARSER]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _inventory(data: Mapping[str, Any]) -> Inventory:
    packages = dict(data["packages"])
    packages["torch_backend"] = TorchBackend(packages["torch_backend"])
    network = data["network"]
    return Inventory(
        file=data["file"],
        hosts=tuple(map(_host, data["hosts"])),
        groups=tuple(data["groups"]),
        network=Network(cidr=network["cidr"], ports=(network["ports"][0], network["ports"][1])),
        packages=Packages(**packages),
    )


def _host(data: Mapping[str, Any]) -> Host:
    values, limits = dict(data), dict(data["limits"])
    if limits["gpu_ids"] is not None:
        limits["gpu_ids"] = tuple(limits["gpu_ids"])
    values |= {
        "connection": ConnectionKind(values["connection"]),
        "jump_hosts": tuple(map(_host, values["jump_hosts"])),
        "tags": tuple(values["tags"]),
        "groups": tuple(values["groups"]),
        "limits": Limits(**limits),
    }
    return Host(**values)
