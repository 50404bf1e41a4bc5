"""The adapter that a run was given, verified as the real programs do."""

import hashlib
import json
from pathlib import Path


def adapter_of(run_dir: Path) -> str:
    """The text that stands for its weights."""
    folder = run_dir / "begin"
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    for name, entry in files.items():
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert digest == entry["sha256"], name
    return (folder / "adapter_model.safetensors").read_text().strip()
