"""A teacher's scores that say nothing: what a shard holds, where it lies on this host, and
a student that waits for it as the real one does."""

import hashlib
import json
import os
import time
from pathlib import Path

from remote.control import Action, read_control
from remote.events import EventWriter
from remote.run import Run

SHARDS = int(os.environ.get("SOLLOL_STUB_SHARDS", "8"))
TOKENS = 10  # of each
LOOK_S = 0.02


class ScoresHere:
    def __init__(self, run: Run, run_dir: Path) -> None:
        distill = run.distill
        assert distill is not None
        parts = [distill.teacher_hash, distill.top_k, distill.temperature]
        self.key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
        self.folder = run_dir.parents[2] / "scores" / self.key
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, shard: int) -> Path:
        return self.folder / f"{shard:06d}.scores"

    def content(self, shard: int) -> bytes:
        return f"{self.key} {shard}\n".encode() * 100

    def is_here(self, shard: int, events: EventWriter) -> bool:
        """Throws away what is not what it should be."""
        path = self.path(shard)
        if not path.exists():
            return False
        if path.read_bytes() == self.content(shard):
            return True
        path.unlink()
        events.emit("scores_corrupt", key=self.key, shard=shard, file=path.name, reason="its sum")
        return False

    def tell(self, events: EventWriter) -> None:
        present = len([*self.folder.glob("*.scores")])
        events.emit("scores", key=self.key, folder=str(self.folder), shards=SHARDS, shard_rows=1,
                    rows=SHARDS, tokens=SHARDS * TOKENS, present=present)  # fmt: skip

    def wait(self, shard: int, run_dir: Path, events: EventWriter) -> None:
        """Until it is here, or somebody wants something else."""
        is_told = False
        while not self.is_here(shard, events) and read_control(run_dir) is Action.RUN:
            if not is_told:
                events.emit("awaiting_scores", step=shard, shards=[shard], seconds=0.0)
            is_told = True
            time.sleep(LOOK_S)
