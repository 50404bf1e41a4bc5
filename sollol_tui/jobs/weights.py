"""Reads what a base model's files say of it: config.json and the headers of its safetensors. Never
reads weights, and asks no network."""

import json
import struct
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts.hub import cached_snapshot
from sollol_tui.model.events import whole
from sollol_tui.model.weights import Weights, weights_of

_MOST_HEADER: Final = 100_000_000  # bytes; what the format itself allows


def read_weights(model: str) -> Weights | None:
    """The model in a folder, or of the Hub where this machine's cache has it. None when it is not
    here, or its files do not tell."""
    folder = Path(model)
    if not folder.is_absolute():
        cached = cached_snapshot(model)
        if cached is None:
            return None
        folder = cached.folder
    try:
        config = json.loads((folder / "config.json").read_bytes())
        tensors: dict[str, tuple[int, ...]] = {}
        for file in sorted(folder.glob("*.safetensors")):
            tensors |= _tensors(file)
    except (OSError, ValueError):
        return None
    return weights_of(config, tensors) if isinstance(config, dict) else None


def _tensors(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file: 8 bytes of the header's length, little-endian, then
    the header in JSON. Raises ValueError for what is none."""
    with file.open("rb") as content:
        start = content.read(8)
        if len(start) < 8 or (length := struct.unpack("<Q", start)[0]) > _MOST_HEADER:
            raise ValueError(f"{file.name} is no safetensors file")
        header = json.loads(content.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{file.name} has no header")
    return {
        name: shape
        for name, about in header.items()
        if name != "__metadata__" and (shape := _shape(about)) is not None
    }


def _shape(about: Any) -> tuple[int, ...] | None:
    sizes = about.get("shape") if isinstance(about, dict) else None
    if not isinstance(sizes, list):
        return None
    found = tuple(size for size in sizes if whole(size) is not None)
    return found if len(found) == len(sizes) else None
