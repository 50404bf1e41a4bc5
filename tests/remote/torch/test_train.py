"""Training as ranks do it: real processes, real gloo, a tiny Llama."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, TrainerState

from remote.base import ModelError, adapt, load_base
from remote.checkpoint import damage
from remote.control import Action, write_control
from remote.engine import Tally
from remote.evaluation import evaluate
from remote.pulse import Doing, read_pulse
from remote.run import Lora
from remote.session import Cursor
from remote.step import Step, commit, compute
from remote.train import main
from tests.remote.torch.fixtures import files_below, started

STEPS = 6


def assert_same_curve(one: dict[int, float], other: dict[int, float]) -> None:
    assert one.keys() == other.keys()
    for step, loss in one.items():
        assert other[step] == pytest.approx(loss, rel=1e-5), f"step {step}"


@pytest.fixture
def alone(make_world, tiny_model, dataset):
    """One rank that trained the whole run, with a checkpoint every second step."""
    world = make_world("alone").plan(tiny_model, dataset, 1, save_steps=2, sample_prompts=["hello"])
    assert main([str(world.run_dir()), "0", "1"]) == 0
    return world


def test_a_rank_that_ends_is_not_waited_for_as_if_it_took_a_step(alone):
    assert read_pulse(alone.run_dir(), 0, 1).doing is Doing.APART


def test_two_ranks_learn_what_one_learns_and_stop_and_resume_change_nothing(
    alone, make_world, tiny_model, dataset
):
    two = make_world("two").plan(tiny_model, dataset, 2, save_steps=2)
    write_control(two.run_dir("w2"), Action.STOP)  # told to one rank, agreed by both
    assert two.train() == [0, 0]
    assert [two.events("stopped", host)[0]["step"] for host in two.hosts] == [1, 1]
    write_control(two.run_dir("w2"), Action.RUN)
    assert two.train() == [0, 0]
    assert_same_curve(alone.losses(), two.losses())
    assert sorted(two.losses()) == [*range(1, STEPS + 1)]
    ends = [two.events("finished", host)[0] for host in two.hosts]
    assert ends[0]["digest"] == ends[1]["digest"]
    assert (ends[0]["samples_done"], ends[1]["result"]) == (47, None)


def test_a_checkpoint_of_one_rank_goes_on_with_two_and_a_corrupt_one_is_passed_over(
    alone, make_world, tiny_model, dataset
):
    two = make_world("two").plan(tiny_model, dataset, 2, save_steps=2)
    for host in two.hosts:
        checkpoints = two.run_dir(host) / "checkpoints"
        checkpoints.mkdir()
        for step in (2, 4):
            source = alone.run_dir() / "checkpoints" / f"checkpoint-{step}"
            shutil.copytree(source, checkpoints / source.name)
    newest = two.run_dir("w2") / "checkpoints" / "checkpoint-4" / "optimizer.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert two.train() == [0, 0]
    notices = [event["message"] for event in two.events("notice", "w2")]
    assert any("checkpoint-4 is passed over: optimizer.pt does not" in line for line in notices)
    assert any("continuing from checkpoint-2," in line for line in notices)
    assert_same_curve(alone.losses(), two.losses())


def test_the_result_loads_with_peft_and_says_what_was_trained(alone, tiny_model):
    result = alone.run_dir() / "result"
    assert damage(result) is None
    names = {path.name for path in result.iterdir()}
    assert {"README.md", "trainer_state.json", "tokenizer.json", "manifest.json"} <= names
    config = json.loads((result / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "somebody/tiny"
    assert 'from_pretrained("somebody/tiny")' in (result / "README.md").read_text()
    state = json.loads((result / "trainer_state.json").read_text())
    assert (state["global_step"], state["epoch"], len(state["log_history"])) == (6, 1.0, 6)
    TrainerState.load_from_json(str(result / "trainer_state.json"))
    assert damage(result / "checkpoint-4") is None
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = PeftModel.from_pretrained(base, result)
    trained = load_file(result / "adapter_model.safetensors")
    head = adapted.base_model.model.lm_head.modules_to_save["default"].weight
    torch.testing.assert_close(head, trained["base_model.model.lm_head.weight"])
    assert not torch.equal(head, base.lm_head.original_module.weight)
    phases = [event["phase"] for event in alone.events("sample")]
    assert phases == ["before", "after"]
    losses = alone.losses()
    assert losses[STEPS] < losses[1] - 0.5


def test_a_result_that_the_disk_refuses_is_left_by_the_next_launch(make_world, tiny_model, dataset):
    world = make_world("alone").plan(tiny_model, dataset, 1, save_steps=3)
    (world.run_dir() / "checkpoints").mkdir()
    with files_below(100_000):  # nor do checkpoints fit
        assert main([str(world.run_dir()), "0", "1"]) == 1
    [failed] = world.events("failed")
    assert "all 6 steps are done, and the result could not be written to" in failed["error"]
    assert "w1: File too large; make room there" in failed["error"]
    assert failed["foreseen"]
    notices = [event["message"] for event in world.events("notice")]
    assert sum("could not be written ([Errno 27]" in notice for notice in notices) == 2
    assert world.train() == [0]
    assert damage(world.run_dir() / "result") is None


def test_checkpoints_beyond_the_limit_go(alone):
    kept = sorted(path.name for path in (alone.run_dir() / "checkpoints").iterdir())
    assert kept == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_ranks_with_other_data_are_refused_by_name(make_world, tiny_model, dataset):
    two = make_world("two").plan(tiny_model, dataset, 2)
    other = dataset.with_name("other.jsonl")
    other.write_text(dataset.read_text().replace("colour 7?", "colour 8?"))
    run = json.loads((two.run_dir("w2") / "run.json").read_text())
    (two.run_dir("w2") / "run.json").write_text(json.dumps({**run, "dataset": str(other)}))
    assert two.train() == [1, 1]
    for host in two.hosts:
        [failed] = two.events("failed", host)
        assert "w2 (slot 1) has other tokens and labels than w1 (slot 0)" in failed["error"]
        assert not two.events("step", host)


def test_a_world_that_the_launcher_split_is_refused_with_both_numbers(
    make_world, tiny_model, dataset, monkeypatch, capsys
):
    two = make_world("two").plan(tiny_model, dataset, 2)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert main([str(two.run_dir()), "0", "1"]) == 1
    [failed] = two.events("failed")
    assert "made a world of 1 where the plan has 2 ranks" in failed["error"]
    assert "WorldError" in failed["traceback"]
    assert "WorldError" in capsys.readouterr().err


def test_rows_whose_loss_is_not_finite_are_named(
    make_world, tiny_model, dataset, tokenizer, tmp_path
):
    poisoned = poison(tiny_model, tokenizer, tmp_path / "poisoned")
    lines = dataset.read_text().splitlines()
    lines[30] = lines[30].replace("colour", "Z")
    dataset.write_text("\n".join(lines))
    world = make_world("alone").plan(poisoned, dataset, 1, lora={"r": 4, "alpha": 8})
    assert world.train() == [1]
    [failed] = world.events("failed")
    assert "the loss of dataset row 31 is not finite" in failed["error"]


def poison(tiny_model, tokenizer, folder):
    """The model, which cannot compute what has a Z in it."""
    shutil.copytree(tiny_model, folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer("Z").input_ids[0]] = math.nan
    model.save_pretrained(folder)
    return folder


def test_a_held_out_row_whose_loss_is_not_finite_is_named_and_its_loss_left_out(
    make_world, tiny_model, dataset, tokenizer, tmp_path
):
    poisoned = poison(tiny_model, tokenizer, tmp_path / "poisoned")
    with dataset.open("a") as rows:  # which side a row is on follows from its text
        rows.writelines(f'\n{{"instruction": "{n}", "output": "Z"}}' for n in range(9))
    lora = {"r": 4, "alpha": 8}
    world = make_world("alone").plan(poisoned, dataset, 1, lora=lora, val_size=0.3)
    for session in started(world):
        held_out = session.validation
        bad = [held_out.place(row) for row in range(len(held_out)) if held_out.numbers[row] > 47]
        cursor = Cursor(step=3)
        assert evaluate(session, cursor) is None
        assert not cursor.history
    assert bad
    assert world.events("notice")[-1]["message"] == (
        f"the held-out loss after step 3 is left out: that of {', '.join(bad)} is not finite; "
        "look at what stands there, or lower the learning rate"
    )


def test_spoilt_weights_are_not_blamed_on_the_rows(session):
    with torch.no_grad():
        session.model.parameters[0].fill_(math.nan)
    step = step_of(session, slice(0, 20))
    with pytest.raises(RuntimeError, match=r"none of its 20 rows has a finite .* spoilt the wei"):
        commit(session, step, compute(session, step))


def step_of(session, share: slice) -> Step:
    samples = np.arange(20)
    tokens = int(session.rows.label_counts[samples].sum())
    return Step(number=1, samples=samples, share=samples[share], tokens=tokens, lr=1e-3)


def test_gradients_of_unequal_shares_add_up_to_that_of_the_whole(session):
    compute(session, step_of(session, slice(0, 20)))
    whole = session.gradients.values.clone()
    session.gradients.clear()
    tallies = [compute(session, step_of(session, part)) for part in (slice(0, 13), slice(13, 20))]
    assert whole.norm() > 0.1
    torch.testing.assert_close(session.gradients.values, whole, rtol=1e-5, atol=1e-7)
    assert sum(tally.samples for tally in tallies) == 20


def test_the_loss_is_that_of_transformers(session):
    batch = session.rows.batch(np.array([3]), session.model.pad_id)
    ids = torch.from_numpy(batch.ids)
    labels = ids.where(torch.from_numpy(batch.labelled), -100)
    with torch.no_grad():
        mean = session.model.network(input_ids=ids, labels=labels).loss
        total = session.model.token_loss(batch)
    assert total.item() == pytest.approx(mean.item() * batch.labelled.sum(), rel=1e-5)


def test_a_step_whose_tally_is_short_is_not_committed(session):
    step = step_of(session, slice(0, 20))
    before = session.model.digest()
    with pytest.raises(RuntimeError, match=r"computed 13 samples .* where 20 .* not committed"):
        commit(session, step, Tally(samples=13, tokens=step.tokens))
    assert session.model.digest() == before


def test_held_out_rows_are_measured_alike_by_one_rank_and_by_two(make_world, tiny_model, dataset):
    settings = {"val_size": 0.25, "eval_steps": 2, "report_to": "tensorboard"}
    one = make_world("one").plan(tiny_model, dataset, 1, **settings)
    two = make_world("two").plan(tiny_model, dataset, 2, **settings)
    assert main([str(one.run_dir()), "0", "1"]) == 0
    assert two.train() == [0, 0]
    told = one.events("evaluation")
    [finished] = one.events("finished")
    assert [event["step"] for event in told] == [2, 4]
    assert told[0]["rows"] + finished["samples_done"] == 47
    assert told[1]["loss"] < told[0]["loss"]
    assert told[0]["perplexity"] == pytest.approx(math.exp(told[0]["loss"]))
    again = [event["loss"] for event in two.events("evaluation")]
    assert again == pytest.approx([event["loss"] for event in told], rel=1e-5)
    assert two.events("evaluation", "w2") == []
    result = one.run_dir() / "result"
    state = TrainerState.load_from_json(str(result / "trainer_state.json"))
    assert (state.best_global_step, state.best_metric) == (4, told[1]["loss"])
    assert [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry] == [
        event["loss"] for event in told
    ]
    assert "| loss per token, held-out rows | " in (result / "README.md").read_text()
    [curves] = (result / "runs").iterdir()
    assert b"eval/loss" in curves.read_bytes()
    assert not (two.run_dir("w2") / "runs").exists()


def test_a_part_too_small_to_hold_a_row_out_is_said(make_world, tiny_model, dataset):
    world = make_world("alone").plan(tiny_model, dataset, 1, val_size=1e-9)
    for session in started(world):
        assert session.validation is None
    notices = [event["message"] for event in world.events("notice")]
    assert any("no row is held out: val_size 1e-09 of 47 rows took none" in n for n in notices)


def test_a_run_that_diverges_stops_with_a_sentence(make_world, tiny_model, dataset):
    world = make_world("alone").plan(
        tiny_model, dataset, 1, learning_rate=0.3, warmup_ratio=0.0, epochs=4, save_steps=2,
        loss_watchdog=1.05, loss_watchdog_steps=3,
    )  # fmt: skip
    assert main([str(world.run_dir()), "0", "1"]) == 1
    [failed] = world.events("failed")
    assert "above 1.05 x its best" in failed["error"]
    assert "lower learning_rate or raise warmup_ratio" in failed["error"]
    assert "checkpoints kept: " in failed["error"]


def test_settings_that_this_host_cannot_keep_are_refused_in_a_sentence(
    make_world, tiny_model, dataset, tmp_path, monkeypatch
):
    def failure(name, **settings):
        world = make_world(name).plan(tiny_model, dataset, 1, **settings)
        assert main([str(world.run_dir()), "0", "1"]) == 1
        return world.events("failed")[0]["error"]

    assert "nf4 needs a CUDA GPU, and w1 trains on its CPU" in failure("a", quantize="nf4")
    monkeypatch.setattr("remote.reports.find_spec", lambda name: None)
    monkeypatch.setattr("remote.base.find_spec", lambda name: None)
    monkeypatch.setattr("remote.base.base_dtype", lambda device: torch.bfloat16)
    uv = tmp_path / "workdir" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.touch()
    monkeypatch.setattr("sys.executable", str(uv.parents[1] / "envs" / "0f" / "bin" / "python"))
    world = make_world("gpu").plan(tiny_model, dataset, 1, quantize="nf4")
    with pytest.raises(ModelError, match=f"lacks; put it there .{uv} pip install --python"):
        load_base(world.run(), torch.device("cuda"))
    said = failure("b", report_to="tensorboard")
    assert "report_to: tensorboard needs tensorboardX, which the environment of w1 lacks" in said


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"target": ["q_proj", "nope"]}, "lora.target names 'nope', no module of somebody/tiny"),
        ({"target": "q_proj, wrong"}, "lora.target names 'wrong'"),
        ({"modules_to_save": ["head"]}, "lora.modules_to_save names 'head'"),
        ({"target": r".*\.nowhere"}, "lora.target does not fit somebody/tiny"),
    ],
)  # fmt: skip
def test_a_module_that_the_model_lacks_is_named_with_those_it_has(
    make_world, tiny_model, dataset, lora, said
):
    world = make_world("alone").plan(tiny_model, dataset, 1, lora={"r": 4, **lora})
    assert main([str(world.run_dir()), "0", "1"]) == 1
    [failed] = world.events("failed")
    assert said in failed["error"]
    assert failed["foreseen"]
    assert "q_proj, k_proj, v_proj, o_proj" in failed["error"]


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # as a rank does
def test_modules_are_named_as_a_list_or_with_commas(tiny_model):
    def adapted(target):
        base = LlamaForCausalLM.from_pretrained(tiny_model)
        network = adapt(base, Lora(r=2, target=target), "tiny")
        return {name.split(".")[-4] for name, _ in network.named_parameters() if "lora_A" in name}

    assert adapted(["q_proj", "v_proj"]) == adapted("q_proj,v_proj") == {"q_proj", "v_proj"}
    assert adapted(r".*\.[qv]_proj") == {"q_proj", "v_proj"}
    assert adapted("all") == adapted("all-linear") > {"q_proj", "up_proj"}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
@pytest.mark.parametrize("target", [["q_proj", "lm_head"], r".*(q_proj|embed_tokens)"])
def test_an_update_of_weights_that_embeddings_and_head_share_is_refused(tiny_model, target):
    config = LlamaConfig.from_pretrained(tiny_model, tie_word_embeddings=True)
    base = LlamaForCausalLM(config)
    with pytest.raises(ModelError, match=r"names '(lm_head|embed_tokens)', whose weights tiny use"):
        adapt(base, Lora(r=2, target=target), "tiny")
    apart = LlamaForCausalLM.from_pretrained(tiny_model)
    assert adapt(apart, Lora(r=2, target=target), "tiny") is not None
