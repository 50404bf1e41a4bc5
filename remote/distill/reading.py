"""A student's side of the cache: waits by name for scores that have not come, never goes on without
them, and reads those of a micro-batch. Makes and moves none.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from remote.data.tokens import Rows
from remote.distill.cache import Cache
from remote.distill.divergence import Signal
from remote.distill.shards import Scores, Shard, ShardError
from remote.events import EventWriter
from remote.run import Distill

MOST_OPEN = 64  # shards mapped at once
ROUND_S = 30.0  # after which all ranks try again together: less than any of them is waited for
LOOK_S = 0.2
TOLD_EVERY_S = 10.0
NAMED_SHARDS = 20


class TeacherScores:
    """What the teacher says of the rows, as far as it has come to this host. Memory holds what is
    asked for and a few open files, however large the cache is."""

    def __init__(
        self,
        workdir: Path,
        distill: Distill,
        rows: Rows,
        device: torch.device,
        events: EventWriter,
    ) -> None:
        self._cache = Cache(workdir, distill, rows)
        self._device = device
        self._events = events
        self._open: OrderedDict[int, Shard] = OrderedDict()  # the longest unused first
        self._verified: set[int] = set()
        self._waiting_since: float | None = None
        self._told_at = 0.0
        places = self._cache.places
        events.emit(
            "scores",
            key=self._cache.key,
            folder=str(self._cache.folder),
            shards=places.shards,
            shard_rows=places.shard_rows,
            rows=len(rows),
            tokens=places.tokens,
            present=self._cache.present(),
        )

    def missing(self, rows: np.ndarray) -> list[int]:
        """The shards of these rows that are not here yet. A damaged one is removed and missing."""
        shards = np.unique(self._cache.places.shards_of(rows)).tolist()
        return [shard for shard in shards if not self._is_here(shard)]

    def signal(self, rows: np.ndarray) -> Signal:
        """What the teacher says of the learnt tokens of these rows, row by row. None is missing."""
        found = [self._of_row(row) for row in rows.tolist()]
        ids = np.concatenate([scores.ids for scores in found])
        logs = np.concatenate([scores.logs for scores in found])
        log_chances, log_rest = Scores(ids=ids, logs=logs).chances()

        def put(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(self._device)

        return Signal(
            ids=put(ids.astype(np.int64)), log_chances=put(log_chances), log_rest=put(log_rest)
        )

    def wait(self, step: int, rows: np.ndarray, is_called_away: Callable[[], bool]) -> None:
        """Waits until the scores of these rows are here, for a round at most, or until this rank
        has something else to do."""
        now = time.monotonic()
        until = now + ROUND_S
        while missing := self.missing(rows):
            self._tell_of(step, missing)
            time.sleep(LOOK_S)
            if is_called_away() or time.monotonic() > until:
                return
        self.go_on(step)

    def go_on(self, step: int) -> None:
        """The scores of a step are here."""
        if self._waiting_since is not None:
            seconds = round(time.monotonic() - self._waiting_since, 1)
            self._waiting_since = None
            self._events.emit("scores_here", step=step, seconds=seconds)
            print(f"the teacher's scores of step {step} are here after {seconds:g} s", flush=True)

    def _tell_of(self, step: int, missing: Sequence[int]) -> None:
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
            print(f"step {step} waits for the teacher's scores", flush=True)
        elif now - self._told_at < TOLD_EVERY_S:
            return
        self._told_at = now
        self._events.emit(
            "awaiting_scores",
            step=step,
            shards=missing[:NAMED_SHARDS],
            seconds=round(now - self._waiting_since, 1),
        )

    def _is_here(self, shard: int) -> bool:
        try:
            self._shard(shard)
        except FileNotFoundError:
            return False
        except ShardError as error:
            path = self._cache.path(shard)
            path.unlink(missing_ok=True)
            self._events.emit(
                "scores_corrupt",
                key=self._cache.key,
                shard=shard,
                file=path.name,
                reason=str(error),
            )
            return False
        return True

    def _of_row(self, row: int) -> Scores:
        shard, tokens = self._cache.places.span(row)
        return self._shard(shard)[tokens]

    def _shard(self, number: int) -> Shard:
        """Each is looked through when it is first met."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self._cache.open(number, verify=number not in self._verified)
        self._verified.add(number)
        self._open[number] = shard
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return shard
