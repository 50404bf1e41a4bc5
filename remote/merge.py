"""Lays an adapter's weights into those of its base: a model that needs no adapter any more, in the
base's own precision. Learns nothing.

Run by an agent: `python -m remote.merge RUN_DIR SLOT ATTEMPT`.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel

from remote.base import ModelError, check_folder, load_tokenizer
from remote.beginning import FOLDER
from remote.checkpoint import MANIFEST, damage, write_folder
from remote.errand import main
from remote.events import EventWriter
from remote.limits import sized
from remote.run import Run
from remote.session import speaker

ROOM = 64 << 20  # bytes beside the weights: tokenizer, manifest, events
CARD = """\
---
base_model: {base}
library_name: transformers
tags: [sollol]
---

{base} with the LoRA weights of {source} merged into it, by sollol. It needs no adapter.
"""


def merge(run: Run, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Leaves the merged model in `result/` of the run directory; tells its place and size."""
    say = speaker(events)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    events.emit("loading", what=run.base_name)
    adapter = run_dir / FOLDER
    if reason := damage(adapter):
        raise ModelError(f"the adapter arrived damaged: {reason}; try again")
    tokenizer, base = load_tokenizer(run.model), load_base(run.model)
    size = sum(weight.numel() * weight.element_size() for weight in base.parameters())
    check_room(run_dir, size + ROOM, run.host)
    say(f"merging the adapter into {run.base_name}: {sized(size)} in {base.dtype}")
    source = json.loads((adapter / MANIFEST).read_bytes()).get("source")
    merged = merged_into(base, adapter)

    def fill(folder: Path) -> None:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(CARD.format(base=run.base_name, source=source))

    write_folder(run_dir / "result", fill)
    return {"result": str(run_dir / "result"), "size_bytes": size}


def load_base(name: str) -> Any:
    """The model in the precision in which it was published, on the CPU."""
    check_folder(name)
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            name, dtype="auto", use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"no model can be loaded from {name}: {first}") from error


@torch.no_grad()
def merged_into(base: Any, adapter: Path) -> Any:
    """The base with the adapter's weights in it, in the base's precision. peft tells embeddings and
    head apart where a base shares them and the adapter has made them differ."""
    dtype = base.dtype
    try:
        network = PeftModel.from_pretrained(base, str(adapter), low_cpu_mem_usage=False)
        merged = network.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"the adapter does not fit its base: {first}; export it with the base that it was "
            "trained on"
        ) from error
    return merged.to(dtype)


def check_room(folder: Path, needed: int, host: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"the merged model takes {sized(needed)}, and {sized(free)} are free in {folder}; free "
            f"some on {host}, or choose another host with --host"
        )


if __name__ == "__main__":
    sys.exit(main(merge))
