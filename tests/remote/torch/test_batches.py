"""Micro-batches of any layout hold every sample once and give the same gradient."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from remote import loss as losses
from remote.base import ModelError, load_tokenizer
from remote.batches import Layout, Packed, cut, fill_lines, pack
from remote.data.tokens import Dataset
from remote.engine import WorldError
from remote.evaluation import evaluate
from remote.fit import (
    check_reach,
    choose_layout,
    free_bytes,
    is_out_of_memory,
    leak,
    warm_up,
)
from remote.loss import summed_loss
from remote.model import load_model
from remote.session import Cursor
from remote.step import Step, TrainError, compute
from tests.remote.torch.fixtures import started

SAMPLES = np.arange(20)


def step_of(session) -> Step:
    tokens = int(session.rows.label_counts[SAMPLES].sum())
    return Step(number=1, samples=SAMPLES, share=SAMPLES, tokens=tokens, lr=1e-3)


def gradient(session, layout: Layout) -> torch.Tensor:
    session.gradients.clear()
    tally = compute(replace(session, layout=layout), step_of(session))
    assert tally.samples == len(SAMPLES)
    assert tally.tokens == step_of(session).tokens
    return session.gradients.values.clone()


def notices(session) -> list[str]:
    lines = (session.run_dir / "events.0.1.jsonl").read_text().splitlines()
    events = map(json.loads, lines)
    return [event["message"] for event in events if event["kind"] == "notice"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_every_sample_is_in_one_micro_batch_and_none_holds_more_than_fits(session, packed, size):
    rows, longest = session.rows, session.rows.lengths.max()
    share = np.random.default_rng(7).permutation(len(rows))[:31]
    seen, tokens = [], 0
    for samples, batch in Layout(size=size, packed=packed).micro_batches(rows, share, 0):
        seen += samples.tolist()
        assert len(batch.ids) <= size
        assert batch.ids.shape[1] <= longest
        assert batch.labelled.sum() == rows.label_counts[samples].sum()
        tokens += batch.positions.size if packed else batch.attention.sum()
    assert sorted(seen) == sorted(share.tolist())
    assert tokens >= rows.lengths[share].sum()


def test_lines_are_as_full_as_the_lengths_allow():
    lengths = np.random.default_rng(3).integers(8, 200, 500)
    lines = fill_lines(lengths, 512)
    assert sorted(np.concatenate(lines).tolist()) == list(range(500))
    assert max(lengths[line].sum() for line in lines) <= 512
    assert len(lines) <= 1.1 * lengths.sum() / 512


def test_micro_batches_are_cut_where_padding_would_cost_more_than_a_call():
    lengths = np.array([90, 90, 88, 30, 30, 30, 29, 2])
    assert cut(lengths, 4, 10) == [slice(0, 3), slice(3, 7), slice(7, 8)]
    assert cut(lengths, 4, 1000) == [slice(0, 4), slice(4, 8)]
    assert cut(lengths, 1, 10) == [slice(i, i + 1) for i in range(8)]
    assert cut(lengths[:0], 4, 10) == []


def test_packed_bucketed_and_single_samples_have_the_same_gradient(session):
    single = gradient(session, Layout(size=1))
    assert single.norm() > 0.1
    for layout in (Layout(size=4), Layout(size=1, packed=True), Layout(size=3, packed=True)):
        torch.testing.assert_close(gradient(session, layout), single, rtol=1e-5, atol=1e-6)


def test_gradient_checkpointing_changes_no_gradient(session):
    plain = gradient(session, Layout(size=4))
    session.model.checkpoint_gradients()
    torch.testing.assert_close(gradient(session, Layout(size=4)), plain, rtol=1e-6, atol=1e-7)


def test_a_model_that_keeps_packed_samples_apart_packs_and_says_so(session):
    run = replace(session.run, train=replace(session.settings, packing=True))
    layout = choose_layout(run, session.model, session.rows, 9, session.say)
    assert layout.packed
    assert "samples are packed on w1: the model keeps them apart" in notices(session)[-1]


def test_a_model_whose_packed_samples_see_each_other_does_not_pack(session, tiny_model, tmp_path):
    config = OPTConfig(
        vocab_size=len(session.model.tokenizer), hidden_size=32, word_embed_proj_dim=32,
        num_hidden_layers=2, num_attention_heads=2, ffn_dim=64, max_position_embeddings=256,
    )  # fmt: skip
    model = other_model(session, tiny_model, tmp_path / "opt", OPTForCausalLM(config))
    run = replace(session.run, train=replace(session.settings, packing=True))
    layout = choose_layout(run, model, session.rows, 9, session.say)
    assert not layout.packed
    assert "not packed on w1, because this model does not keep them apart" in notices(session)[-1]


def test_a_sample_that_sees_what_lies_before_it_is_noticed(session, monkeypatch):
    assert leak(session.model, session.rows) is None
    forward = session.model.network.forward

    def without_positions(position_ids, **inputs):
        return forward(**inputs)

    monkeypatch.setattr(session.model.network, "forward", without_positions)
    assert "loss moves by" in leak(session.model, session.rows)


def test_what_fills_a_line_up_is_never_learnt(session):
    rows = session.rows
    lines = [np.array([0, 1]), np.array([2])]
    packed = pack(rows, lines, pad_id=0)
    assert isinstance(packed, Packed)
    assert packed.labelled[0].sum() == rows.label_counts[[0, 1]].sum()
    assert not packed.labelled[1, rows.lengths[2] :].any()
    assert not packed.labelled[packed.positions == 0].any()


def only(samples):
    """Memory that holds so many samples at once."""

    def refuse(module, args, kwargs):
        if len(kwargs["input_ids"]) > samples:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    return refuse


@pytest.fixture
def memory(session):
    """Lets the model hold so many samples at once, and no more."""
    limit = {"samples": 2}

    def refuse(*call):
        only(limit["samples"])(*call)

    hook = session.model.network.register_forward_pre_hook(refuse, with_kwargs=True)
    yield limit
    hook.remove()


def test_memory_that_runs_out_in_a_step_loses_nothing_of_it(session, memory):
    memory["samples"] = 100
    whole = gradient(session, Layout(size=8))
    memory["samples"] = 3
    layout = Layout(size=8)
    torch.testing.assert_close(gradient(session, layout), whole, rtol=1e-5, atol=1e-6)
    assert layout.size == 2
    assert "computed again with 2 samples at once" in notices(session)[-1]


def test_a_sample_too_large_for_the_memory_is_said_in_a_sentence(session, memory):
    memory["samples"] = 0
    with pytest.raises(TrainError, match=r"step 1: w1 has no memory left for a single sample"):
        gradient(session, Layout(size=2))
    session.layout.size = 4
    with pytest.raises(WorldError, match=r"one sample of \d+ tokens does not fit .* lower max_len"):
        warm_up(session, session.say)
    assert "gradient checkpointing is on, because without it" in notices(session)[-1]


def test_a_batch_size_that_does_not_fit_is_lowered_and_said(session, memory):
    session.layout.size = 16
    warm_up(session, session.say)
    assert session.layout.size == 2
    assert "batch_size is 2 instead of 16, because" in notices(session)[-1]
    assert not session.gradients.values.any()


def test_batch_size_auto_takes_what_memory_holds(make_world, tiny_model, dataset):
    world = make_world("auto").plan(tiny_model, dataset, 1, batch_size="auto")
    for session in started(world):
        assert session.layout.size == 9  # all of the global batch: it is tiny
        assert any("batch_size auto is 9: one sample of" in line for line in notices(session))


def test_batch_size_auto_stays_within_the_limit_of_the_run(session):
    run = replace(session.run, train=replace(session.settings, batch_size=None))
    all_of_it = free_bytes(run)
    assert 0 < free_bytes(replace(run, ram_gb=8)) < min(8 * 1024**3, all_of_it + 1)
    tight = replace(run, ram_gb=0.01)
    layout = choose_layout(tight, session.model, session.rows, 9, session.say)
    assert layout.size == 1
    assert "batch_size auto is 1: one sample of" in notices(session)[-1]
    assert ", 0.0 GiB are free" in notices(session)[-1]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9.3 GiB for an array"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memo"
                     "ry: you tried to allocate 4 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
    ],
)  # fmt: skip
def test_lack_of_memory_is_known_whoever_says_so(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_held_out_rows_that_do_not_fit_are_measured_in_smaller_groups(
    make_world, tiny_model, dataset
):
    world = make_world("alone").plan(tiny_model, dataset, 1, val_size=0.5)
    for session in started(world):
        whole = evaluate(session, Cursor(step=1))
        session.layout.size = 8
        hook = session.model.network.register_forward_pre_hook(only(2), with_kwargs=True)
        assert evaluate(session, Cursor(step=2)).loss == pytest.approx(whole.loss, rel=1e-5)
        assert session.layout.size == 2
        hook.remove()
        session.model.network.register_forward_pre_hook(only(0), with_kwargs=True)
        with pytest.raises(WorldError, match=r"w1 has no memory left for a single held-out row"):
            evaluate(session, Cursor(step=3))


def test_gradient_checkpointing_is_on_before_memory_is_measured(
    make_world, tiny_model, dataset, monkeypatch
):
    measured = []

    def measure(model, *_):
        modules = model.network.modules()
        measured.append(any(getattr(each, "gradient_checkpointing", False) for each in modules))
        return 1

    monkeypatch.setattr("remote.fit._samples_in_memory", measure)
    world = make_world("auto").plan(
        tiny_model, dataset, 1, batch_size="auto", gradient_checkpointing=True
    )
    for _ in started(world):
        assert measured == [True]


def test_a_model_that_does_not_compile_is_said_in_a_sentence(session):
    from torch._dynamo.exc import TorchDynamoException

    def refuse(module, args, kwargs):
        raise TorchDynamoException("InvalidCxxCompiler: no working C++ compiler\n  in detail")

    session.model.network.register_forward_pre_hook(refuse, with_kwargs=True)
    train = replace(session.settings, torch_compile=True)
    compiled = replace(session, run=replace(session.run, train=train))
    with pytest.raises(ModelError, match=r"does not work on w1: .* compiler; set torch_compile: f"):
        warm_up(compiled, session.say)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_in_pieces_is_that_of_the_whole(dtype, monkeypatch):
    torch.manual_seed(5)
    logits = torch.randn(3, 17, 91).to(dtype).requires_grad_()
    targets = torch.randint(91, (3, 17))
    learnt = torch.rand(3, 17) < 0.6
    outcomes = []
    for piece_bytes in (1 << 30, 7 * 91 * 4):
        monkeypatch.setattr(losses, "PIECE_BYTES", piece_bytes)
        logits.grad = None
        loss = summed_loss(logits, targets, learnt)
        (loss / 7).backward()
        outcomes.append((loss.detach(), logits.grad))
    expected = cross_entropy(logits[learnt].float(), targets[learnt], reduction="sum")
    torch.testing.assert_close(outcomes[0][0], expected.detach())
    torch.testing.assert_close(outcomes[1], outcomes[0])


def other_model(session, tiny_model, folder, network):
    """The session's run with another base under the same tokenizer."""
    network.save_pretrained(folder)
    tokenizer = load_tokenizer(str(tiny_model))
    lora = replace(session.settings.lora, modules_to_save=[])
    run = replace(session.run, model=str(folder), train=replace(session.settings, lora=lora))
    return load_model(run, tokenizer, torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # peft sets it right itself
def test_rows_longer_than_a_table_of_positions_are_refused(session, tiny_model, tmp_path):
    config = GPT2Config(vocab_size=260, n_positions=48, n_embd=16, n_layer=1, n_head=1)
    model = other_model(session, tiny_model, tmp_path / "gpt2", GPT2LMHeadModel(config))
    data = Dataset(training=session.rows, validation=session.rows)
    with pytest.raises(
        ModelError, match=r"the longest row has 9\d tokens .* 48 places .* lower max_length"
    ):
        check_reach(model, data, session.say)


def test_rows_longer_than_a_model_was_made_for_are_said(session, tiny_model, tmp_path):
    model = session.model
    data = Dataset(training=session.rows, validation=session.rows)
    before = notices(session)
    check_reach(model, data, session.say)
    assert notices(session) == before
    model.network.get_base_model().config.max_position_embeddings = 48
    check_reach(model, data, session.say)
    assert "tokens and somebody/tiny was made for 48 (max_pos" in notices(session)[-1]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # peft sets it right itself
def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(session, tiny_model, tmp_path):
    config = GPT2Config(vocab_size=100, n_positions=512, n_embd=16, n_layer=1, n_head=1)
    model = other_model(session, tiny_model, tmp_path / "gpt2", GPT2LMHeadModel(config))
    data = Dataset(training=session.rows, validation=session.rows)
    with pytest.raises(ModelError, match=r"token \d+ and somebody/tiny has embeddings for 0 to 99"):
        check_reach(model, data, session.say)
