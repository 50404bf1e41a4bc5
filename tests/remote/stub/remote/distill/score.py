"""A scorer that computes nothing, in the standard library: the contract's events and files.
`python -m remote.distill.score RUN_DIR SLOT ATTEMPT`."""

import hashlib
import os
import sys
import time
from pathlib import Path

from remote.scores_here import SHARDS, TOKENS, ScoresHere

from remote.control import Action, read_control
from remote.events import EventWriter
from remote.files import write_atomic
from remote.program import begin, carry_out
from remote.run import Rank, Run

SHARD_S = float(os.environ.get("SOLLOL_STUB_SHARD_S", "0.02"))
FAIL = os.environ.get("SOLLOL_STUB_FAIL", "")
HOLDS, _, RELEASE = os.environ.get("SOLLOL_STUB_HOLDS", "").partition("=")


def score(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
    if run.program == FAIL:
        raise RuntimeError("the stub was told to fail")
    assert run.distill is not None
    scores = ScoresHere(run, run_dir)
    part = range(run.distill.part, SHARDS, run.distill.parts)
    present = [shard for shard in part if scores.is_here(shard, events)]
    events.emit("scoring", key=scores.key, shards=SHARDS, part=run.distill.part,
                parts=run.distill.parts, part_tokens=len(part) * TOKENS)  # fmt: skip
    events.emit("notice", message=f"a word on part {run.distill.part}")
    done = scored = 0
    if f"{run.program}:idle" == FAIL:
        events.emit("finished", shards=0, tokens=0, scored=0, seconds=0.1)
        return
    for shard in (*present, *(each for each in part if each not in present)):
        is_present = scores.is_here(shard, events)
        while f"{run.program}:{shard}" == HOLDS and not Path(RELEASE).exists():
            if read_control(run_dir) is not Action.RUN:
                break
            time.sleep(0.05)
        if read_control(run_dir) is not Action.RUN:
            events.emit("stopped", reason="it was told to")
            return
        if not is_present:
            time.sleep(SHARD_S)
            write_atomic(scores.path(shard), scores.content(shard))
            scored += TOKENS
        while f"{run.program}:untold {shard}" == HOLDS and not Path(RELEASE).exists():
            time.sleep(0.05)
        data = scores.path(shard).read_bytes()
        events.emit("shard", key=scores.key, shard=shard, file=scores.path(shard).name,
                    size=len(data), sha256=hashlib.sha256(data).hexdigest(), tokens=TOKENS,
                    present=is_present, seconds=0.0)  # fmt: skip
        done += TOKENS
        events.emit("progress", tokens_done=done, tokens_total=len(part) * TOKENS, scored=scored,
                    tokens_per_s=100.0, eta_s=0.0)  # fmt: skip
    events.emit("finished", shards=len(part), tokens=done, scored=scored, seconds=0.1)


if __name__ == "__main__":
    begin(sys.argv[1:])
    sys.exit(carry_out(sys.argv[1:], score))
