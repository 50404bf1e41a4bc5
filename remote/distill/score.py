"""Scores a dataset with a teacher, shard by shard in the order in which students take it, into the
cache of this host. What is there and sound is left alone; carries nothing anywhere.

Run by an agent: `python -m remote.distill.score RUN_DIR SLOT ATTEMPT`.
"""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from remote.base import load_tokenizer
from remote.control import Action, read_control
from remote.distill.cache import Cache
from remote.distill.shards import token_bytes
from remote.distill.teacher import Scorer, TeacherError, check_tokens, load_teacher
from remote.engine import DismissedError
from remote.errand import main
from remote.events import EventWriter
from remote.fit import check_reach
from remote.presence import Presence
from remote.pulse import Doing, Pulse
from remote.run import Distill, Run
from remote.session import Say, speaker
from remote.start import device_of, quieten, tokens_of, workdir_of

TOLD_EVERY_S = 1.0
LOOK_S = 0.5  # at a shard that another process writes
LARGE_REST = 0.5  # of what is said; with more the gradient soon points elsewhere


def score(run: Run, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns once all shards of this scorer's part are here."""
    distill, say, began = run.distill, speaker(events), time.monotonic()
    [own] = run.own_ranks
    assert distill is not None
    device = device_of(own)
    quieten()
    with Presence(None, events, f"the tokens of {Path(run.dataset).name}") as presence:
        check_tokens(distill, run.model, say)
        tokenizer = load_tokenizer(run.model, weights=False)
        data = tokens_of(run, run_dir, tokenizer, say)
        rows = data.training
        cache = Cache(workdir_of(run_dir), distill, rows)
        places = cache.places
        cache.describe()
        part = range(distill.part, places.shards, distill.parts)
        present = [shard for shard in part if _is_sound(cache, shard, say)]
        lacking = sorted(set(part) - set(present))
        scorer = None
        if lacking:
            presence.doing = f"the teacher {distill.teacher_name}"
            teacher = load_teacher(run, tokenizer, device)
            check_reach(teacher, data, say)
            scorer = Scorer(teacher, run, rows, say)
    part_tokens = sum(map(places.tokens_of, part))
    events.emit(
        "scoring",
        key=cache.key,
        folder=str(cache.folder),
        shards=places.shards,
        shard_rows=places.shard_rows,
        rows=len(rows),
        tokens=places.tokens,
        part=distill.part,
        parts=distill.parts,
        part_shards=len(part),
        part_tokens=part_tokens,
        present=len(present),
        bytes_per_token=token_bytes(len(tokenizer), min(distill.top_k, len(tokenizer))),
        vocabulary=len(tokenizer),
        teacher=distill.teacher_name,
        device=str(device),
    )
    for shard in present:
        tell_of(events, cache, shard, present=True, seconds=0.0)
    pace = Pace(events, run_dir, part_tokens, done=sum(map(places.tokens_of, present)))
    pulse = Pulse(run_dir, own.slot, events.attempt)
    for shard in present[:1]:
        warn_of_rest(cache, shard, distill, say)
    if scorer is not None:
        for number, shard in enumerate(lacking, start=1):
            pulse.begin_step()
            pulse.now(Doing.COMPUTING)
            write(cache, shard, scorer, pace, events)
            pulse.took(number)
            if number == 1 and not present:
                warn_of_rest(cache, shard, distill, say)
    pace.tell()
    print(f"{len(part)} shards are here, {pace.scored:,} tokens of them scored now", flush=True)
    seconds = round(time.monotonic() - began, 2)
    return {"shards": len(part), "tokens": part_tokens, "scored": pace.scored, "seconds": seconds}


class Pace:
    """How far the scoring is and how fast; obeys the coordinator between micro-batches."""

    def __init__(self, events: EventWriter, run_dir: Path, total: int, *, done: int) -> None:
        self.scored = 0
        self._events = events
        self._run_dir = run_dir
        self._total = total
        self._there = done
        self._began = time.monotonic()
        self._told_at = float("-inf")

    def took(self, tokens: int) -> None:
        self.scored += tokens
        if time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self.tell()
        self.obey()

    def found(self, tokens: int) -> None:
        """Another process has scored them."""
        self._there += tokens

    def obey(self) -> None:
        if (wanted := read_control(self._run_dir)) is not Action.RUN:
            raise DismissedError(wanted)

    def tell(self) -> None:
        self._told_at = time.monotonic()
        done = self._there + self.scored
        speed = self.scored / max(self._told_at - self._began, 1e-6)
        self._events.emit(
            "progress",
            tokens_done=done,
            tokens_total=self._total,
            scored=self.scored,
            tokens_per_s=round(speed, 1),
            eta_s=round((self._total - done) / speed, 1) if speed else None,
        )


def write(cache: Cache, shard: int, scorer: Scorer, pace: Pace, events: EventWriter) -> None:
    """Scores one shard, unless another process of this host does or did, or it was brought here
    meanwhile."""
    places = cache.places
    while True:
        began, scored = time.monotonic(), pace.scored
        with cache.claim(shard) as claim:
            if claim is not None:
                scores = scorer.score(places.rows, places.rows_of(shard), pace.took)
                pace.scored = scored + len(scores)  # and not what was begun anew with fewer rows
                try:
                    size, digest = claim.write(scores)
                except OSError as error:
                    raise TeacherError(
                        f"shard {shard} cannot be written into {cache.folder}: {error.strerror}; "
                        "mend that, and a new start goes on after the shards that are there"
                    ) from error
                seconds = time.monotonic() - began
                _tell(events, cache, shard, size, digest, present=False, seconds=seconds)
                return
        if cache.path(shard).exists():
            pace.found(places.tokens_of(shard))
            tell_of(events, cache, shard, present=True, seconds=0.0)
            return
        pace.obey()
        time.sleep(LOOK_S)


def warn_of_rest(cache: Cache, shard: int, distill: Distill, say: Say) -> None:
    """Says so when most of what the teacher says is said of no token by name: a student learns of
    the others only how likely they are together."""
    scores = cache.open(shard, verify=False)[:]
    rest, kept = scores.rest(), scores.ids.shape[1]
    if rest <= LARGE_REST:
        return
    cooler = " or lower teacher.temperature" if distill.temperature > 1 else ""
    say(
        f"at temperature {distill.temperature:g} the {kept} tokens that are kept hold "
        f"{100 * (1 - rest):.0f} % of what {distill.teacher_name} says; of all others a student "
        f"learns only how likely they are together: raise teacher.top_k{cooler}"
    )


def tell_of(
    events: EventWriter, cache: Cache, shard: int, *, present: bool, seconds: float
) -> None:
    path = cache.path(shard)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    _tell(events, cache, shard, size, digest, present=present, seconds=seconds)


def _tell(
    events: EventWriter,
    cache: Cache,
    shard: int,
    size: int,
    digest: str,
    *,
    present: bool,
    seconds: float,
) -> None:
    events.emit(
        "shard",
        key=cache.key,
        shard=shard,
        file=cache.path(shard).name,
        size=size,
        sha256=digest,
        tokens=cache.places.tokens_of(shard),
        present=present,
        seconds=round(seconds, 2),
    )


def _is_sound(cache: Cache, shard: int, say: Say) -> bool:
    try:
        reason = cache.drop_if_damaged(shard)
    except FileNotFoundError:
        return False
    if reason:
        say(f"shard {shard} is damaged and is scored again: {reason}")
    return reason is None


if __name__ == "__main__":
    sys.exit(main(score, followed=False))
