"""A merged model says what base and adapter say together, in the base's precision."""

import os

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from remote.checkpoint import damage
from remote.errand import carry_out
from remote.following import follow
from remote.merge import merge
from remote.train import main
from tests.remote.torch.test_evaluate import ask, give_adapter

IDS = torch.arange(5, 45)[None]


@pytest.fixture
def train(make_world, dataset):
    """The result of a short training on a model."""

    def trained(model, **lora):
        world = make_world("trained").plan(
            model, dataset, 1, learning_rate=1e-2, lora={"r": 4, "alpha": 8, **lora}
        )
        assert main([str(world.run_dir()), "0", "1"]) == 0
        return world.run_dir() / "result"

    return trained


@pytest.fixture
def merged(make_world, dataset):
    def run(model, adapter):
        world = make_world("merged").plan(model, dataset, 1)
        give_adapter(world, adapter)
        ask(world, "merge")
        held = follow(world.run_dir())
        try:
            code = carry_out([str(world.run_dir()), "0", "1"], merge)
        finally:
            os.close(held)
        return world, code

    return run


@torch.no_grad()
def logits(network):
    return network.eval()(input_ids=IDS, use_cache=False).logits.float()


def adapted(model, adapter):
    return PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(model, dtype="auto"), adapter
    )


@pytest.mark.parametrize("saved", [[], ["embed_tokens", "lm_head"]])
def test_it_says_what_base_and_adapter_say(train, merged, tiny_model, saved):
    adapter = train(tiny_model, modules_to_save=saved)
    world, code = merged(tiny_model, adapter)
    assert code == 0, world.events("failed")
    folder = world.run_dir() / "result"
    assert damage(folder) is None
    whole = AutoModelForCausalLM.from_pretrained(folder)
    together = logits(adapted(tiny_model, adapter))
    assert (logits(whole) - together).abs().max() <= 1e-5
    assert (logits(AutoModelForCausalLM.from_pretrained(tiny_model)) - together).abs().max() > 0.1
    assert (folder / "tokenizer.json").exists()
    assert "somebody/tiny" in (folder / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied")
def test_embeddings_that_base_models_share_are_told_apart(train, merged, tiny_model, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    base.config.tie_word_embeddings = True
    base.tie_weights()
    tied = tmp_path / "tied"
    base.save_pretrained(tied)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tied / name).write_bytes((tiny_model / name).read_bytes())
    adapter = train(tied, modules_to_save=["embed_tokens", "lm_head"])
    world, code = merged(tied, adapter)
    assert code == 0, world.events("failed")
    whole = AutoModelForCausalLM.from_pretrained(world.run_dir() / "result")
    assert (logits(whole) - logits(adapted(tied, adapter))).abs().max() <= 1e-5


def test_it_keeps_the_precision_of_its_base(train, merged, tiny_model, tmp_path):
    adapter = train(tiny_model, modules_to_save=["embed_tokens", "lm_head"])
    half = tmp_path / "half"
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    base.save_pretrained(half)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (half / name).write_bytes((tiny_model / name).read_bytes())
    world, code = merged(half, adapter)
    assert code == 0, world.events("failed")
    whole = AutoModelForCausalLM.from_pretrained(world.run_dir() / "result", dtype="auto")
    assert {weight.dtype for weight in whole.parameters()} == {torch.bfloat16}
    size = sum(weight.numel() * 2 for weight in whole.parameters())
    assert world.events("finished")[0]["size_bytes"] == size


def test_a_disk_without_room_is_told_before_anything_is_written(
    train, merged, tiny_model, monkeypatch
):
    monkeypatch.setattr("remote.merge.ROOM", 1 << 60)
    world, code = merged(tiny_model, train(tiny_model))
    assert code == 1
    error = world.events("failed")[0]["error"]
    assert "free some on w1, or choose another host with --host" in error
    assert not [*world.run_dir().glob("*result*")]
