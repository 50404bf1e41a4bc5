"""A teacher that cannot teach is refused by name; one that has little room scores fewer at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from remote import tiny
from remote.base import load_tokenizer
from remote.distill import score as scoring
from tests.remote.torch.scorers import Scoring, events

TOKENS = 260


@pytest.fixture
def taught_by(tmp_path: Path, tiny_model: Path, dataset: Path) -> Callable[[Any], Scoring]:
    """Scorers with a network as teacher, which reads with the student's tokenizer."""

    def make(network: Any) -> Scoring:
        network.save_pretrained(tmp_path / "teacher")
        load_tokenizer(str(tiny_model)).save_pretrained(tmp_path / "teacher")
        return Scoring(tmp_path, tmp_path / "teacher", tiny_model, dataset)

    return make


def refused(scorers: Scoring) -> str:
    run_dir = scorers.plan()
    assert scorers.score(run_dir) == 1
    [failed] = events(run_dir, "failed")
    assert failed["foreseen"]
    assert scorers.cache(run_dir).present() == 0
    return failed["error"]


def test_a_teacher_whose_numbers_are_not_finite_teaches_nothing(
    taught_by: Callable[[Any], Scoring], teacher_model: Path
) -> None:
    broken = LlamaForCausalLM.from_pretrained(teacher_model)
    broken.model.norm.weight.data[3] = torch.nan
    error = refused(taught_by(broken))
    assert error.startswith("the-teacher says numbers that are not finite, so it cannot teach; ")


def test_rows_that_are_longer_than_a_teacher_reads_are_refused_before_it_scores(
    taught_by: Callable[[Any], Scoring],
) -> None:
    small = GPT2Config(vocab_size=TOKENS, n_positions=48, n_embd=16, n_layer=1, n_head=1)
    error = refused(taught_by(GPT2LMHeadModel(small)))
    assert "tokens and the-teacher has 48 places for them; lower max_length" in error


def test_what_a_teacher_says_of_ids_that_no_token_has_is_in_the_rest(
    taught_by: Callable[[Any], Scoring],
) -> None:
    """Vocabularies are often rounded up."""
    scorers = taught_by(tiny.tiny_llama(TOKENS + 60, 0, 1, seed=3))
    run_dir = scorers.plan(top_k=1000)
    assert scorers.score(run_dir) == 0
    scores = scorers.cache(run_dir).open(0, verify=True)[:]
    assert scores.ids.shape[1] == TOKENS
    assert scores.ids.max() < TOKENS
    assert 0.05 < scores.rest() < 0.6


@pytest.mark.parametrize("samples", [3, 0])
def test_a_teacher_that_runs_out_of_memory_scores_fewer_rows_at_once_and_the_same(
    scorers: Scoring, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    load = scoring.load_teacher

    def load_into_little(*arguments: Any) -> Any:
        def refuse(module: Any, args: Any, kwargs: Any) -> None:
            if len(kwargs["input_ids"]) > samples:
                raise torch.OutOfMemoryError("CUDA out of memory.")

        teacher = load(*arguments)
        teacher.network.register_forward_pre_hook(refuse, with_kwargs=True)
        return teacher

    monkeypatch.setattr(scoring, "load_teacher", load_into_little)
    run_dir = scorers.plan()
    run = json.loads((run_dir / "run.json").read_text())
    run["train"]["batch_size"] = 8
    (run_dir / "run.json").write_text(json.dumps(run))
    if not samples:
        assert scorers.score(run_dir) == 1
        [failed] = events(run_dir, "failed")
        assert failed["error"].startswith("w1 has no memory left to score a single row of up to ")
        return
    assert scorers.score(run_dir) == 0
    said = [notice["message"] for notice in events(run_dir, "notice")]
    lack = [message for message in said if message.startswith("memory ran out, ")]
    assert ["again with 4 samples" in lack[0], "again with 2 samples" in lack[1]] == [True, True]
    assert len(lack) == 2
    cache = scorers.cache(run_dir)
    [done] = events(run_dir, "finished")
    assert done["scored"] == cache.places.tokens
    ids = [cache.open(shard, verify=True)[:].ids for shard in range(3)]
    for shard in range(3):
        cache.path(shard).unlink()
    monkeypatch.undo()
    assert scorers.score(run_dir, attempt=2) == 0
    for shard in range(3):
        assert (cache.open(shard, verify=True)[:].ids == ids[shard]).mean() > 0.999
