"""A worker's environment on this machine, for what a test makes and judges with torch."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.coordinator import CHECKOUT

WORKER_PYTHON = CHECKOUT / ".venv-worker" / "bin" / "python"
needs_worker_python = pytest.mark.skipif(
    not WORKER_PYTHON.exists() and os.environ.get("SOLLOL_REQUIRE_CLUSTER") != "1",
    reason="make test makes .venv-worker",
)

JUDGED = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
model, adapter, *merged = sys.argv[1:]
loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), adapter)
AutoTokenizer.from_pretrained(adapter)
weights = [p for name, p in loaded.named_parameters() if "lora_B" in name]
judged = {
    "rank": loaded.peft_config["default"].r,
    "trained": sum(p.abs().sum().item() > 0 for p in weights),
}
for folder in merged:
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        both = [network.eval()(input_ids=ids).logits
                for network in (loaded, AutoModelForCausalLM.from_pretrained(folder))]
    judged["apart"] = float((both[0] - both[1]).abs().max())
print(json.dumps(judged))
"""


def judge(model: Path, adapter: str | Path, *merged: str | Path) -> dict[str, Any]:
    """Loads an adapter as a user does: its rank, how many of its matrices were trained, and how far
    what it says is `apart` from what the merged model in another folder says."""
    folders = map(str, (model, adapter, *merged))
    judged: dict[str, Any] = json.loads(worker_python("-c", JUDGED, *folders))
    return judged


def tiny_model(folder: Path) -> None:
    """The demo's model, made once for all tests: that takes seconds to load torch."""
    source = CHECKOUT / "remote" / "tiny.py"
    made = CHECKOUT / ".cache" / f"tiny-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not made.exists():
        made.parent.mkdir(exist_ok=True)
        new = tempfile.mkdtemp(dir=made.parent)
        worker_python("-m", "remote.tiny", f"{new}/model")
        with contextlib.suppress(OSError):  # another test was quicker
            Path(new, "model").rename(made)
        shutil.rmtree(new)
    shutil.copytree(made, folder)


def worker_python(*arguments: str) -> str:
    """Runs the Python of a worker's environment on this machine."""
    done = subprocess.run(
        [WORKER_PYTHON, "-P", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={"PYTHONPATH": str(CHECKOUT), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
