"""Checkpoints as workers leave them, for tests that need no rank to write one."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path


def write_checkpoint(folder: Path, step: int, files: Mapping[str, bytes] | None = None) -> Path:
    place = folder / f"checkpoint-{step}"
    if files is None:
        files = {"adapter_model.safetensors": b"w" * 1000, "deep/it's $HOME": b"%d" % step}
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    entries = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
    }
    (place / "manifest.json").write_text(json.dumps({"v": 1, "files": entries}, indent=1))
    return place


def run_dir_of(folder: Path, job: str, host: str) -> Path:
    return folder / host / "runs" / job / host
