"""Payloads for tests: the real remote/ folder, whole or with ranks that need no torch."""

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
STUB = Path(__file__).resolve().parent / "remote" / "stub"


def stub_payload(target: Path) -> Path:
    """Builds in `target` what PYTHONPATH needs: the real remote/ with the stub's files over it, and
    the stub's accelerate beside it. Returns `target`, the folder that holds remote/."""
    ignored = shutil.ignore_patterns("__pycache__", "README")
    shutil.copytree(REPOSITORY / "remote", target / "remote", ignore=ignored)
    shutil.copytree(STUB, target, ignore=ignored, dirs_exist_ok=True)
    return target
