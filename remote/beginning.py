"""The weights with which a run begins when they are those of another job's checkpoint. That one's
cursor and optimizer are left behind: the samples are others."""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

from remote.base import ModelError
from remote.checkpoint import ADAPTER, MANIFEST, damage
from remote.model import Model

FOLDER = "begin"  # in the run directory; the coordinator put it there


def begin(model: Model, run_dir: Path, say: Callable[[str], None]) -> None:
    """Loads these weights, where there are any. Raises ModelError when they are not whole."""
    folder = run_dir / FOLDER
    if not folder.is_dir():
        return
    if reason := damage(folder):
        raise ModelError(
            f"the weights to begin with are damaged: {reason}; remove {folder} and start the job "
            "anew (sollol rerun)"
        )
    model.load_adapter(load_file(folder / ADAPTER))
    source = json.loads((folder / MANIFEST).read_bytes()).get("source")
    say(f"beginning with the weights of {source}")
