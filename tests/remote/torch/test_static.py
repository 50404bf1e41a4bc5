"""The fixed world: who is silent is named, and models that are none are refused in a sentence."""

import os
import threading
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from remote.base import ModelError, load_tokenizer
from remote.engine import Tally, WorldError
from remote.engine.static import StaticEngine, arrives
from remote.engine.words import WORD_BYTES, row_of, word_of
from tests.ports import unused_port


def test_a_rank_that_does_not_come_is_named_with_the_time_waited(
    make_world, tiny_model, dataset, monkeypatch
):
    two = make_world("two").plan(tiny_model, dataset, 2)
    path = two.run_dir() / "run.json"
    path.write_text(path.read_text().replace('"start_timeout_s": 60', '"start_timeout_s": 0.5'))
    run = two.run()
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(unused_port()),
    }.items():
        monkeypatch.setenv(name, value)
    engine = StaticEngine(run, run.rank_of_slot(0))
    with pytest.raises(WorldError, match=r"1 of 2 ranks .* 0\.5 s .*: w2 \(slot 1, 127\.0\.0\.1\)"):
        engine.join()


def test_a_rank_of_another_job_is_not_counted_in_a_store_that_both_reach(
    make_world, tiny_model, dataset, monkeypatch
):
    run = make_world("two").plan(tiny_model, dataset, 2).run()
    ours = replace(run, start_timeout_s=0.5)
    another = replace(ours, nonce="another", host="w2")
    shared = dist.HashStore()
    monkeypatch.setattr(StaticEngine, "_store", lambda engine, wait_s: shared)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    stranger = StaticEngine(another, another.rank_of_slot(1))
    with pytest.raises(WorldError, match=r"w1 \(slot 0"):
        stranger.join()
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(WorldError, match=r"1 of 2 ranks .*: w2 \(slot 1"):
        StaticEngine(ours, ours.rank_of_slot(0)).join()


def test_a_slow_rank_is_waited_for_as_long_as_it_beats():
    store = dist.HashStore()
    arrivals, beats = dist.PrefixStore("arrived", store), dist.PrefixStore("alive", store)

    def load_slowly() -> None:
        for beat in range(8):
            beats.set("1", str(beat))
            threading.Event().wait(0.2)
        arrivals.set("1", "")

    loading = threading.Thread(target=load_slowly)
    loading.start()
    assert arrives("1", arrivals, beats, wait_s=0.6)
    loading.join()
    assert not arrives("2", arrivals, beats, wait_s=0.3)


def test_a_rank_launched_under_anothers_number_is_refused(
    make_world, tiny_model, dataset, monkeypatch
):
    run = make_world("two").plan(tiny_model, dataset, 2).run()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(WorldError, match="slot 0 as rank 1 where the plan says 0"):
        StaticEngine(run, run.rank_of_slot(0))


def test_a_world_of_one_needs_no_launcher(make_world, tiny_model, dataset):
    assert "RANK" not in os.environ
    run = make_world("alone").plan(tiny_model, dataset, 1).run()
    engine = StaticEngine(run, run.rank_of_slot(0))
    engine.join()
    flat = torch.ones(3)
    tally = engine.reduce(flat, Tally(samples=2, tokens=2**40 + 1, loss_sum=0.1))
    assert (tally.tokens, tally.loss_sum, flat.tolist()) == (2**40 + 1, 0.1, [1, 1, 1])
    assert engine.exchange("grün") == {0: "grün"}
    engine.close()


def test_a_word_may_be_empty():
    assert [word_of(row_of(word)) for word in ("", "ü", "x" * WORD_BYTES)] == [
        "", "ü", "x" * WORD_BYTES,
    ]  # fmt: skip


def test_a_folder_that_is_no_model_is_said_in_a_sentence(tmp_path):
    with pytest.raises(ModelError, match="is not a folder"):
        load_tokenizer(str(tmp_path / "none"))
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors weights"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="no tokenizer can be loaded"):
        load_tokenizer(str(tmp_path))
