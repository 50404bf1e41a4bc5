"""Options that change how a CPU computes and must not change what is learnt: whole runs."""

import json

import pytest
import torch

from remote.base import load_base
from remote.train import main


def losses(world) -> dict[int, float]:
    """By step, of those that were told: steps that follow each other fast share an event."""
    assert main([str(world.run_dir()), "0", "1"]) == 0
    return {event["step"]: event["loss"] for event in world.events("step")}


@pytest.fixture
def usual(make_world, tiny_model, dataset) -> dict[int, float]:
    return losses(make_world("usual").plan(tiny_model, dataset, 1))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"packing": True}, "samples are packed on w1: the model keeps them apart"),
        ({"gradient_checkpointing": True}, ""),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_learns_the_same(make_world, tiny_model, dataset, usual, option, said):
    world = make_world("other").plan(tiny_model, dataset, 1, **option)
    told = losses(world)
    both = sorted(told.keys() & usual.keys())
    assert both[-1] == max(usual) == max(told)
    assert [told[step] for step in both] == pytest.approx([usual[step] for step in both], rel=1e-4)
    assert any(said in event["message"] for event in world.events("notice")) or not said


def test_beside_a_gpu_a_cpu_begins_with_the_same_rounded_base(make_world, tiny_model, dataset):
    world = make_world("mixed").plan(tiny_model, dataset, 2)
    cpu = torch.device("cpu")
    alone = dict(load_base(world.run(), cpu).named_parameters())
    file = world.run_dir() / "run.json"
    plan = json.loads(file.read_text())
    plan["world"][1]["gpu"] = 0
    file.write_text(json.dumps(plan))
    beside = dict(load_base(world.run(), cpu).named_parameters())
    changed = 0
    for name, weight in beside.items():
        assert weight.dtype is torch.float32
        assert torch.equal(weight, alone[name].bfloat16().float()), name
        changed += not torch.equal(weight, alone[name])
    assert changed, "the weights of this model need rounding"
