"""The cache of a teacher's scores on one host: its name, its shards, and where each row's lie.
Found by content, so that jobs, students and epochs share it; makes no scores.

`<workdir>/scores/<key>/`: about.json for people, and 000000.scores, 000001.scores, ... in the order
in which every student takes its first epoch; *.part is being written.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from remote.data.order import shared_order
from remote.data.tokens import Rows
from remote.distill.shards import Scores, Shard, ShardError, write_shard
from remote.files import write_atomic
from remote.run import Distill

FOLDER = "scores"
ABOUT = "about.json"
ENDING = ".scores"
FEWEST_ROWS, MOST_ROWS = 16, 128  # of a shard
SHARDS = 128  # that little data are cut into, so that students begin soon
_VERSION = 1


@dataclass(frozen=True)
class Places:
    """Which shard holds a row's scores, and which of its tokens they are."""

    rows: Rows

    @cached_property
    def order(self) -> np.ndarray:
        return shared_order(len(self.rows))

    @cached_property
    def _place_of_row(self) -> np.ndarray:
        places = np.empty(len(self.order), dtype=np.int64)
        places[self.order] = np.arange(len(self.order))
        return places

    @cached_property
    def _begins(self) -> np.ndarray:
        """Of every place in the order, and of the end: how many tokens come before it."""
        return np.concatenate([[0], np.cumsum(self.rows.label_counts[self.order])])

    @property
    def shard_rows(self) -> int:
        return min(max(len(self.rows) // SHARDS, FEWEST_ROWS), MOST_ROWS)

    @property
    def shards(self) -> int:
        return -(-len(self.rows) // self.shard_rows)

    @property
    def tokens(self) -> int:
        return int(self._begins[-1])

    def rows_of(self, shard: int) -> np.ndarray:
        return self.order[shard * self.shard_rows : (shard + 1) * self.shard_rows]

    def tokens_of(self, shard: int) -> int:
        begin = shard * self.shard_rows
        end = min(begin + self.shard_rows, len(self.rows))
        return int(self._begins[end] - self._begins[begin])

    def shards_of(self, rows: np.ndarray) -> np.ndarray:
        """The shard of each row."""
        return self._place_of_row[rows] // self.shard_rows

    def span(self, row: int) -> tuple[int, slice]:
        """The shard of a row, and its tokens there."""
        place = int(self._place_of_row[row])
        shard = place // self.shard_rows
        before = int(self._begins[shard * self.shard_rows])
        begin, end = self._begins[place : place + 2]
        return shard, slice(int(begin) - before, int(end) - before)


def key_of(distill: Distill, rows: Rows) -> str:
    """What decides the scores: teacher, tokens, and how it is asked."""
    parts = [
        _VERSION,
        distill.teacher_hash,
        distill.quantize,
        rows.digest,
        distill.top_k,
        float(distill.temperature),  # which JSON may write as 1 or 1.0
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class Cache:
    def __init__(self, workdir: Path, distill: Distill, rows: Rows) -> None:
        self.key = key_of(distill, rows)
        self.folder = workdir / FOLDER / self.key
        self.places = Places(rows)
        self._distill = distill
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, shard: int) -> Path:
        return self.folder / f"{shard:06d}{ENDING}"

    def present(self) -> int:
        """How many shards are here, looked through or not."""
        return sum(1 for _ in self.folder.glob(f"*{ENDING}"))

    def open(self, shard: int, *, verify: bool) -> Shard:
        """Raises FileNotFoundError where it has not come yet, and ShardError."""
        return Shard(self.path(shard), self.about(shard), verify=verify)

    def drop_if_damaged(self, shard: int) -> str | None:
        """Removes a shard that is not what it should be; why, or None. Raises FileNotFoundError."""
        try:
            self.open(shard, verify=True)
        except ShardError as error:
            self.path(shard).unlink(missing_ok=True)
            return str(error)
        return None

    def describe(self) -> None:
        """Leaves a note for people, and for whoever asks what a folder is of."""
        distill, places = self._distill, self.places
        about: dict[str, Any] = {
            "v": _VERSION,
            "key": self.key,
            "teacher_name": distill.teacher_name,
            "teacher_hash": distill.teacher_hash,
            "quantize": distill.quantize,
            "top_k": distill.top_k,
            "temperature": distill.temperature,
            "rows": len(places.rows),
            "tokens": places.tokens,
            "shards": places.shards,
            "shard_rows": places.shard_rows,
            "tokens_digest": places.rows.digest,
        }
        write_atomic(self.folder / ABOUT, json.dumps(about, indent=1).encode() + b"\n")

    @contextmanager
    def claim(self, shard: int) -> Iterator["Claim | None"]:
        """The right to write a shard that is not there, or None: another process has it, or has
        just written it. The kernel takes it from who dies."""
        part = self.path(shard).with_suffix(".part")
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            try:
                # Its last holder may have given it its name, or cleared it away, meanwhile.
                is_ours = _is_at(file, part) and not self.path(shard).exists()
                if is_ours:
                    file.truncate(0)
                yield Claim(self, shard, file, part) if is_ours else None
            finally:
                with suppress(FileNotFoundError):
                    if _is_at(file, part):
                        part.unlink()

    def about(self, shard: int) -> dict[str, str | int]:
        """What a shard says of itself."""
        return {"key": self.key, "shard": shard, "tokens": self.places.tokens_of(shard)}


@dataclass(frozen=True, slots=True)
class Claim:
    cache: Cache
    shard: int
    _file: Any
    _part: Path

    def write(self, scores: Scores) -> tuple[int, str]:
        """Puts the scores in their place; returns size and sha256 of the file."""
        about = self.cache.about(self.shard)
        return write_shard(self._file, self._part, self.cache.path(self.shard), scores, about)


def _is_at(file: Any, path: Path) -> bool:
    """Whether this name is still that of the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
