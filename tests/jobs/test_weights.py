"""What a base model's files say of it, whole or not."""

import json
import struct
from pathlib import Path

import pytest

from sollol_tui.jobs.weights import read_weights
from sollol_tui.model.spec import JobSpec, Lora
from sollol_tui.model.weights import Weights, need_of

CONFIG = {"hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 10, "intermediate_size": 16}
SHAPES = {
    "model.embed_tokens.weight": [10, 8],
    "model.layers.0.self_attn.q_proj.weight": [8, 8],
    "model.layers.0.mlp.up_proj.weight": [16, 8],
    "model.layers.0.input_layernorm.weight": [8],
}


def write_model(folder: Path, shapes: dict[str, list[int]] = SHAPES) -> str:
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        for name, shape in shapes.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return str(folder)


def model(folder: Path) -> Weights:
    found = read_weights(write_model(folder))
    assert found is not None
    return found


def test_a_model_is_counted_without_its_weights_being_read(tmp_path: Path) -> None:
    found = model(tmp_path)
    assert found.parameters == 80 + 64 + 128 + 8
    assert (found.hidden, found.layers, found.widest, found.vocabulary) == (8, 1, 16, 10)


@pytest.mark.parametrize(
    ("lora", "trained"),
    [
        (Lora(r=2), 2 * 16 + 2 * 24),  # not the embeddings, which are no linear layer
        (Lora(r=2, target="q_proj"), 2 * 16),
        (Lora(r=2, target=["up_proj", "q_proj"]), 2 * 16 + 2 * 24),
        (Lora(r=2, target="q_proj, up_proj"), 2 * 16 + 2 * 24),
        (Lora(r=2, target=r".*\.(q|k)_proj"), 2 * 16),
        (Lora(r=2, target="["), 0),
        (Lora(r=2, target="q_proj", modules_to_save=["embed_tokens"]), 2 * 16 + 80),
        (Lora(r=2, target="q_proj", modules_to_save=["lm_head"]), 2 * 16 + 80),  # tied
    ],
)
def test_the_adapter_is_counted_as_peft_makes_it(tmp_path: Path, lora: Lora, trained: int) -> None:
    assert model(tmp_path).trained(lora) == trained


def test_a_model_that_is_not_here_or_not_whole_is_unknown(tmp_path: Path) -> None:
    assert read_weights(str(tmp_path / "none")) is None
    assert read_weights("nobody/no-such-model") is None
    name = write_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    assert read_weights(name) is None
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0[]")
    assert read_weights(name) is None
    write_model(tmp_path, {"a.weight": [-1, 2]})
    assert read_weights(name) is None


def test_memory_grows_with_what_is_asked(tmp_path: Path) -> None:
    found = model(tmp_path)
    asked = JobSpec(model="m", dataset="d")
    need = need_of(found, asked, on_gpu=False)
    assert need.kept < need.least <= need.usual
    more = need_of(found, JobSpec(model="m", dataset="d", batch_size=64), on_gpu=False)
    assert (more.kept, more.least) == (need.kept, need.least)
    assert more.usual > need.usual
    assert need_of(found, asked, on_gpu=True).kept < need.kept
    assert need.checkpoint == 12 * found.trained(asked.lora)
