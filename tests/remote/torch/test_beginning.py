"""A run begins where another one's checkpoint ends: at its cursor, or with its weights alone."""

import json
import re
import shutil

import pytest
from safetensors.torch import load_file

from remote.beginning import FOLDER
from remote.checkpoint import ADAPTER, MANIFEST, write_folder
from remote.train import main


@pytest.fixture
def first(make_world, tiny_model, dataset):
    """47 rows once, 8 at a time: checkpoint-4 after 32 samples, and a short last step."""
    world = make_world("first").plan(tiny_model, dataset, 1, save_steps=2)
    assert main([str(world.run_dir()), "0", "1"]) == 0
    return world


def checkpoint(world, step):
    return world.run_dir() / "checkpoints" / f"checkpoint-{step}"


def give(world, source):
    target = world.run_dir() / "checkpoints" / source.name
    shutil.copytree(source, target)


def test_more_epochs_go_on_at_the_same_sample(first, make_world, tiny_model, dataset):
    longer = make_world("longer").plan(tiny_model, dataset, 1, epochs=2)
    give(longer, checkpoint(first, 4))
    assert main([str(longer.run_dir()), "0", "1"]) == 0
    assert longer.events("step")[0]["step"] == 5
    assert longer.events("finished")[0]["samples_done"] == 94
    # The schedule of the longer run is another; the samples of step 5 are not.
    assert longer.losses()[5] == pytest.approx(first.losses()[5], rel=1e-5)


def test_after_a_short_last_step_more_epochs_are_refused(first, make_world, tiny_model, dataset):
    longer = make_world("longer").plan(tiny_model, dataset, 1, epochs=2)
    give(longer, checkpoint(first, 6))
    assert main([str(longer.run_dir()), "0", "1"]) == 1
    assert "was made with epochs 1" in longer.events("failed")[0]["error"]


def begin_with(world, source):
    def fill(folder):
        shutil.copyfile(source / ADAPTER, folder / ADAPTER)

    write_folder(world.run_dir() / FOLDER, fill)


def test_other_samples_begin_with_the_weights_alone(first, make_world, tiny_model, dataset):
    other = make_world("other").plan(tiny_model, dataset, 1, global_batch=16, learning_rate=1e-12)
    begin_with(other, checkpoint(first, 6))
    assert main([str(other.run_dir()), "0", "1"]) == 0
    assert other.events("step")[0]["step"] == 1
    told = [event["message"] for event in other.events("notice")]
    assert any("beginning with the weights of" in message for message in told)
    learnt = load_file(checkpoint(first, 6) / ADAPTER)
    kept = load_file(other.run_dir() / "result" / ADAPTER)
    for name, tensor in learnt.items():  # the rate is next to nothing
        assert kept[name].allclose(tensor, atol=1e-6), name


def test_damaged_weights_to_begin_with_are_refused(first, make_world, tiny_model, dataset):
    other = make_world("other").plan(tiny_model, dataset, 1)
    begin_with(other, checkpoint(first, 6))
    manifest = other.run_dir() / FOLDER / MANIFEST
    told = json.loads(manifest.read_bytes())
    told["files"][ADAPTER]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(told))
    assert main([str(other.run_dir()), "0", "1"]) == 1
    assert "the weights to begin with are damaged" in other.events("failed")[0]["error"]


def test_weights_of_other_settings_are_refused_by_name(first, make_world, tiny_model, dataset):
    for lora, said in (
        (
            {"r": 2, "modules_to_save": ["embed_tokens", "lm_head"]},
            r"is \[4, \d+\] in the saved adapter and \[2, \d+\] in",
        ),
        ({"r": 4, "modules_to_save": []}, r"lm_head.* and not in this model"),
        (
            {"r": 4, "target": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
            "and not in this model",
        ),
    ):
        other = make_world(f"other{lora}").plan(tiny_model, dataset, 1, lora=lora)
        begin_with(other, checkpoint(first, 6))
        assert main([str(other.run_dir()), "0", "1"]) == 1
        [failed] = other.events("failed")
        assert re.search(said, failed["error"])
        assert "lora.r, lora.target and lora.modules_to_save must be those" in failed["error"]
        assert failed["foreseen"]
