"""Scoring: every token once, in the order of the first epoch, whatever dies meanwhile."""

import errno
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from remote import tiny
from remote.base import load_tokenizer
from remote.control import Action, write_control
from remote.data.order import samples_of_step
from remote.distill import cache as caching
from remote.distill import score as scoring
from remote.distill.cache import Cache
from remote.distill.reading import TeacherScores
from remote.distill.score import Pace
from remote.distill.shards import id_type, scores_of, token_bytes
from remote.distill.teacher import load_teacher
from remote.events import EventWriter
from remote.run import read_run
from tests.remote.torch.scorers import Scoring, events

CPU = torch.device("cpu")


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(scoring, name, refuse)


def test_scores_are_what_the_teacher_says_of_every_learnt_token(scorers: Scoring) -> None:
    run_dir = scorers.plan()
    assert scorers.score(run_dir) == 0
    cache, run = scorers.cache(run_dir), read_run(run_dir)
    rows, places = cache.places.rows, cache.places
    teacher = load_teacher(run, load_tokenizer(run.model), CPU)
    assert sorted(np.concatenate([places.rows_of(s) for s in range(places.shards)])) == [*range(47)]
    for row in (0, 17, 46):
        shard, tokens = places.span(row)
        scores = cache.open(shard, verify=True)[tokens]
        with torch.no_grad():
            logits, _, learnt = teacher.foretold(rows.batch(np.array([row]), 0))
            exact = log_softmax(logits[learnt].double(), dim=1)
        top, ids = exact.topk(32, dim=1)
        log_chances, log_rest = scores.chances()
        assert len(scores) == rows.label_counts[row] == len(exact)
        assert (scores.ids == ids.numpy()).all()
        np.testing.assert_allclose(np.exp(log_chances), top.exp(), atol=3e-4)
        np.testing.assert_allclose(np.exp(log_rest[:, 0]), 1 - top.exp().sum(dim=1), atol=3e-4)


def test_a_second_scorer_finds_all_and_loads_no_teacher(
    scorers: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = scorers.plan(), scorers.plan("w2.teacher")
    assert scorers.score(first) == 0
    [told] = events(first, "scoring")
    [done] = events(first, "finished")
    assert done["scored"] == done["tokens"] == told["tokens"] == scorers.cache(first).places.tokens
    assert told["present"] == 0
    assert told["shards"] == 3
    forbid(monkeypatch, "load_teacher")
    assert scorers.score(second) == 0
    [told] = events(second, "scoring")
    [done] = events(second, "finished")
    assert (told["present"], done["scored"]) == (3, 0)
    carried = {entry["file"]: entry["sha256"] for entry in events(first, "shard")}
    assert carried == {entry["file"]: entry["sha256"] for entry in events(second, "shard")}
    assert [entry["present"] for entry in events(second, "shard")] == [True] * 3


def test_a_scorer_that_was_interrupted_redoes_only_the_shard_it_was_at(
    scorers: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = scorers.plan()
    took = Pace.took

    def stop_in_the_second_shard(pace: Pace, tokens: int) -> None:
        if len(events(run_dir, "shard")) == 1:
            write_control(run_dir, Action.STOP)
        took(pace, tokens)

    monkeypatch.setattr(Pace, "took", stop_in_the_second_shard)
    assert scorers.score(run_dir) == 0
    assert len(events(run_dir, "stopped")) == 1
    cache = scorers.cache(run_dir)
    assert [path.name for path in sorted(cache.folder.iterdir())] == ["000000.scores", "about.json"]
    cache.path(1).with_suffix(".part").write_bytes(b"what a killed one leaves")
    monkeypatch.setattr(Pace, "took", took)
    write_control(run_dir, Action.RUN)
    assert scorers.score(run_dir, attempt=2) == 0
    [done] = events(run_dir, "finished", attempt=2)
    assert done["scored"] == cache.places.tokens - cache.places.tokens_of(0)
    assert [entry["shard"] for entry in events(run_dir, "shard", attempt=2)] == [0, 1, 2]
    assert not [*cache.folder.glob("*.part")]


def test_a_teacher_of_whose_words_few_are_kept_says_so(scorers: Scoring) -> None:
    """Told by who scores, and by who finds all there; an untrained teacher is sure of nothing."""

    def warnings(run_dir: Path, attempt: int = 1) -> list[str]:
        said = [notice["message"] for notice in events(run_dir, "notice", attempt)]
        return [message for message in said if "tokens that are kept hold" in message]

    flat, sure = scorers.plan(temperature=2.0), scorers.plan("w2.teacher", top_k=200)
    assert [scorers.score(flat), scorers.score(flat, attempt=2), scorers.score(sure)] == [0, 0, 0]
    [told] = warnings(flat)
    assert re.match(
        r"at temperature 2 the 32 tokens that are kept hold \d+ % of what the-teacher says; ", told
    )
    assert told.endswith(": raise teacher.top_k or lower teacher.temperature")
    assert warnings(flat, attempt=2) == [told]
    assert warnings(sure) == []


def test_several_scorers_share_the_shards(scorers: Scoring) -> None:
    parts = [scorers.plan(f"w{n}.teacher", part=n, parts=2) for n in range(2)]
    assert [scorers.score(part) for part in parts] == [0, 0]
    told = [[entry["shard"] for entry in events(part, "shard")] for part in parts]
    assert told == [[0, 2], [1]]
    scored = sum(events(part, "finished")[0]["scored"] for part in parts)
    assert scored == scorers.cache(parts[0]).places.tokens


def test_a_disk_that_refuses_is_told_and_what_was_scored_stays(
    scorers: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = scorers.plan()
    write_shard = caching.write_shard

    def full_at_last(*arguments: Any) -> Any:
        if len(events(run_dir, "shard")) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_shard(*arguments)

    monkeypatch.setattr(caching, "write_shard", full_at_last)
    assert scorers.score(run_dir) == 1
    [failed] = events(run_dir, "failed")
    assert failed["foreseen"]
    assert failed["error"].startswith("shard 2 cannot be written into ")
    assert len([*scorers.cache(run_dir).folder.glob("*.scores")]) == 2
    assert not [*scorers.cache(run_dir).folder.glob("*.part")]


@pytest.mark.parametrize("at", [40, -40])
def test_a_damaged_shard_is_scored_again(scorers: Scoring, at: int) -> None:
    """In its header, and among its numbers."""
    run_dir = scorers.plan()
    assert scorers.score(run_dir) == 0
    path = scorers.cache(run_dir).path(1)
    sound = path.read_bytes()
    spoilt = bytearray(sound)
    spoilt[at] ^= 1
    path.write_bytes(spoilt)
    assert scorers.score(run_dir, attempt=2) == 0
    assert path.read_bytes() == sound
    [notice] = [n for n in events(run_dir, "notice", 2) if "damaged" in n["message"]]
    assert notice["message"].startswith("shard 1 is damaged and is scored again: ")
    assert events(run_dir, "finished", attempt=2)[0]["scored"] > 0


def test_a_student_removes_a_damaged_shard_and_waits_for_it(scorers: Scoring) -> None:
    run_dir = scorers.plan()
    assert scorers.score(run_dir) == 0
    cache, run = scorers.cache(run_dir), read_run(run_dir)
    places = cache.places
    cache.path(2).write_bytes(cache.path(2).read_bytes()[:-8])
    writer = EventWriter.of_run(run, run_dir, 0, 1)
    assert run.distill is not None
    student = TeacherScores(scorers.workdir, run.distill, places.rows, CPU, writer)
    assert student.missing(np.concatenate([places.rows_of(0), places.rows_of(1)])) == []
    assert student.missing(places.rows_of(2)) == [2]
    assert not cache.path(2).exists()
    [told] = events(run_dir, "scores_corrupt", slot=0)
    assert (told["shard"], told["file"]) == (2, "000002.scores")
    student.wait(1, places.rows_of(2), lambda: True)
    [told] = events(run_dir, "awaiting_scores", slot=0)
    assert told["shards"] == [2]


def test_only_one_process_may_write_a_shard(scorers: Scoring) -> None:
    run_dir = scorers.plan()
    one, other = scorers.cache(run_dir), scorers.cache(run_dir)
    with one.claim(1) as claim:
        assert claim is not None
        with other.claim(1) as second:
            assert second is None
        count, top_k = one.places.tokens_of(1), 4
        ids = np.tile(np.arange(top_k, dtype=np.uint16), (count, 1))
        claim.write(scores_of(ids, np.full((count, top_k), -2.0), np.full((count, 1), -0.8)))
    with other.claim(1) as late:
        assert late is None
    assert other.open(1, verify=True)[:3].ids.tolist() == [[0, 1, 2, 3]] * 3
    assert [path.name for path in one.folder.iterdir()] == ["000001.scores"]


@pytest.mark.parametrize(("vocabulary", "most"), [(65_536, 130), (128_256, 200)])
def test_a_token_takes_few_bytes(
    scorers: Scoring, monkeypatch: pytest.MonkeyPatch, vocabulary: int, most: int
) -> None:
    """With its part of header and checksum, in a shard of 16 rows of 125 learnt tokens."""
    cache = scorers.cache(scorers.plan())
    tokens, top_k = 2000, 32
    monkeypatch.setattr(type(cache.places), "tokens_of", lambda places, shard: tokens)
    ids = np.arange(vocabulary - top_k, vocabulary).astype(id_type(vocabulary))
    scores = scores_of(
        np.tile(ids, (tokens, 1)), np.full((tokens, top_k), -4.0), np.full((tokens, 1), -0.6)
    )
    with cache.claim(0) as claim:
        assert claim is not None
        size, _ = claim.write(scores)
    assert size / tokens <= most
    assert token_bytes(vocabulary, top_k) <= size / tokens
    assert cache.open(0, verify=True)[:1].ids.tolist() == [ids.tolist()]


def test_the_name_of_a_cache_follows_from_what_decides_the_scores(scorers: Scoring) -> None:
    run_dir = scorers.plan()
    places, distill = scorers.cache(run_dir).places, read_run(run_dir).distill
    assert distill is not None
    others: list[Callable[[Any], Any]] = [
        lambda d: replace(d, teacher_hash="beef"),
        lambda d: replace(d, top_k=16),
        lambda d: replace(d, temperature=2.0),
        lambda d: replace(d, quantize="nf4"),
    ]
    same = replace(
        distill, temperature=1, alpha=0.1, teacher=None, teacher_name="else", part=1, parts=3
    )
    keys = {Cache(scorers.workdir, d, places.rows).key for d in (distill, same)}
    assert len(keys) == 1
    keys |= {Cache(scorers.workdir, change(distill), places.rows).key for change in others}
    assert len(keys) == 5


def test_a_teacher_with_other_tokens_is_refused_by_name(
    scorers: Scoring, teacher_model: Path, tmp_path: Path, dataset: Path
) -> None:
    tiny.main([str(tmp_path / "other"), "--words-of", str(dataset)])
    run_dir = Scoring(tmp_path, teacher_model, tmp_path / "other", dataset).plan()
    assert scorers.score(run_dir) == 1
    [failed] = events(run_dir, "failed")
    assert failed["foreseen"]
    assert "the-teacher cannot be this student's: " in failed["error"]
    assert "it can learn the teacher's answers instead" in failed["error"]


def test_the_first_epoch_is_the_same_for_every_seed_and_later_ones_are_not() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        return samples_of_step(seed, 50, 50, 2, number, shared_first=True).tolist()

    assert epoch(1, 0) == epoch(2, 0)
    assert epoch(1, 1) != epoch(2, 1)
    assert epoch(1, 1) == samples_of_step(1, 50, 50, 2, 1).tolist()


def test_a_plan_that_names_no_teacher_is_refused(scorers: Scoring) -> None:
    run_dir = scorers.plan()
    said = json.loads((run_dir / "run.json").read_text())
    said["distill"]["teacher"] = None
    (run_dir / "run.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"no distill\.teacher"):
        read_run(run_dir)
    said["program"], said["distill"]["part"] = "train", 1
    (run_dir / "run.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="part 1 of 1"):
        read_run(run_dir)
