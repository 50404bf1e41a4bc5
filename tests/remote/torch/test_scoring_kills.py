"""A scorer that is killed, at any byte and at any moment: no shard is half there, and none that was
told is scored again."""

import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remote.distill import shards
from remote.distill.cache import Cache
from remote.distill.shards import Scores, scores_of
from tests.remote.torch.fixtures import DEADLINE_S
from tests.remote.torch.scorers import Scoring, events

KILLS = 20
TOP_K = 4


def killed(act: Callable[[], Any]) -> int:
    """Does it in a process of its own, and returns the signal that ended that."""
    child = os.fork()
    if not child:
        try:
            act()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def some_scores(cache: Cache) -> Scores:
    tokens = cache.places.tokens_of(0)
    ids = np.tile(np.arange(TOP_K, dtype=np.uint16), (tokens, 1))
    return scores_of(ids, np.full((tokens, TOP_K), -2.0), np.full((tokens, 1), -0.8))


def write(cache: Cache) -> int:
    with cache.claim(0) as claim:
        assert claim is not None
        return claim.write(some_scores(cache))[0]


def test_a_shard_is_whole_or_not_there_at_whatever_byte_its_writer_is_killed(
    scorers: Scoring,
) -> None:
    cache = scorers.cache(scorers.plan())
    size = write(cache)
    sound = cache.path(0).read_bytes()
    for kept in (0, 1, 8, 100, size // 2, size - 1):
        cache.path(0).unlink()

        def run_out(kept: int = kept) -> None:
            """The kernel keeps so many bytes of the file and kills who writes the next."""
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (kept, resource.RLIM_INFINITY))
            write(cache)

        assert killed(run_out) == signal.SIGXFSZ
        assert cache.path(0).with_suffix(".part").stat().st_size == kept
        assert cache.present() == 0
        write(cache)
        assert cache.path(0).read_bytes() == sound


@pytest.mark.parametrize(
    ("place", "name", "is_there"),
    [(os, "fsync", False), (Path, "rename", False), (shards, "sync_folder", True)],
)
def test_a_shard_is_whole_or_not_there_at_whatever_act_its_writer_is_killed(
    scorers: Scoring, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, is_there: bool
) -> None:
    cache = scorers.cache(scorers.plan())
    with monkeypatch.context() as patched:
        patched.setattr(place, name, die)
        assert killed(lambda: write(cache)) == signal.SIGKILL
    assert cache.present() == is_there
    if not is_there:
        write(cache)
    assert len(cache.open(0, verify=True)[:]) == cache.places.tokens_of(0)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_scorer_that_is_killed_twenty_times_scores_no_shard_twice(
    tmp_path: Path, teacher_model: Path, tiny_model: Path, fork_server: Any
) -> None:
    """Each time when it has begun a shard that chance names, at a moment that chance names."""
    dataset = tmp_path / "rows.jsonl"
    rows = [f'{{"instruction": "count {n}", "output": "{n} {n + 1}"}}\n' for n in range(900)]
    dataset.write_text("".join(rows))
    scorers = Scoring(tmp_path, teacher_model, tiny_model, dataset)
    run_dir = scorers.plan()
    cache = scorers.cache(run_dir)
    chance = random.Random(7)
    told: Counter[int] = Counter()
    attempts = count(1)
    for kill in range(KILLS):
        attempt = next(attempts)
        scorer = fork_server.Process(target=scorers.score, args=(run_dir, attempt))
        before = cache.present()
        scorer.start()
        wanted = min(before + chance.randrange(4), cache.places.shards - 1)
        begun = cache.path(wanted), cache.path(wanted).with_suffix(".part")
        deadline = time.monotonic() + DEADLINE_S
        while scorer.exitcode is None and not any(path.exists() for path in begun):
            assert time.monotonic() < deadline, f"shard {wanted} was not begun, kill {kill}"
            scorer.join(0.005)
        scorer.join(chance.random() / 50)
        scorer.kill()
        scorer.join()
        told.update(scored_by(run_dir, attempt))
        assert cache.present() >= max(before, len(told))
    last = next(attempts)
    present = [shard for shard in range(cache.places.shards) if cache.path(shard).exists()]
    assert scorers.score(run_dir, attempt=last) == 0
    [done] = events(run_dir, "finished", attempt=last)
    kept = sum(map(cache.places.tokens_of, present))
    assert done["scored"] == cache.places.tokens - kept
    told.update(scored_by(run_dir, last))
    assert set(told.values()) == {1}
    for shard in range(cache.places.shards):
        assert len(cache.open(shard, verify=True)[:]) == cache.places.tokens_of(shard)


def scored_by(run_dir: Path, attempt: int) -> list[int]:
    """The shards that it has told as its own work; of a killed one the last line may be torn."""
    path = run_dir / f"events.9.{attempt}.jsonl"
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    path.write_text(whole + "\n" if whole else "")
    return [told["shard"] for told in events(run_dir, "shard", attempt) if not told["present"]]
