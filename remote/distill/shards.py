"""One shard of a teacher's scores: what it holds of each token, and the file that is whole or not
there. Knows nothing of rows, order or models.

A safetensors file with two arrays, an entry per learnt token, and their sha256:
  ids    uint16 (uint32 for vocabularies above 65,536): the k likeliest tokens, the likeliest first
  logs   fp16: the logarithms of the chances of all other tokens together, then of the 2nd to k-th
The likeliest token's chance is what these leave of 1: so they add up to 1 whatever fp16 rounds, and
a token takes 4 k bytes (6 k with uint32).
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from remote.files import sync_folder

NARROW_VOCABULARY = 1 << 16
LOWEST_LOG = -6e4  # that fp16 holds; of a chance that is 0
LEAST_CHANCE = 1e-9
_VERSION = 1
_ABOUT = "about"


class ShardError(ValueError):
    """A file is not the shard it should be; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Of some tokens, in order."""

    ids: np.ndarray  # uint16 or uint32 (tokens, k)
    logs: np.ndarray  # fp16 (tokens, k)

    def __len__(self) -> int:
        return len(self.ids)

    def chances(self) -> tuple[np.ndarray, np.ndarray]:
        """The logarithms (fp32) of the chances of `ids`, and of all other tokens together."""
        logs = self.logs.astype(np.float32)
        chances = np.exp(logs)
        first = 1 - chances.sum(axis=1, dtype=np.float64)
        least = chances[:, 1:].max(axis=1, initial=LEAST_CHANCE)
        rest = logs[:, :1].copy()
        logs[:, 0] = np.log(np.maximum(first, least))
        return logs, rest

    def rest(self) -> float:
        """How much of what is said is said of no token by name: of a token, on average."""
        return float(np.exp(self.logs[:, 0].astype(np.float32)).mean()) if len(self) else 0.0


def scores_of(ids: np.ndarray, log_chances: np.ndarray, log_rest: np.ndarray) -> Scores:
    """Scores from the likeliest tokens, the likeliest first, and the logarithms of their chances
    (tokens, k) and of the rest (tokens, 1)."""
    logs = np.concatenate([log_rest, log_chances[:, 1:]], axis=1)
    return Scores(ids=ids, logs=np.maximum(logs, LOWEST_LOG).astype(np.float16))


def id_type(vocabulary: int) -> Any:
    return np.uint16 if vocabulary <= NARROW_VOCABULARY else np.uint32


def token_bytes(vocabulary: int, top_k: int) -> int:
    """What the scores of one token take."""
    return top_k * (np.dtype(id_type(vocabulary)).itemsize + np.dtype(np.float16).itemsize)


def write_shard(
    file: Any, path: Path, final: Path, scores: Scores, about: Mapping[str, str | int]
) -> tuple[int, str]:
    """Writes through `file`, open at `path`, which gets the name `final` once it would survive a
    power loss. Returns size and sha256 of the file."""
    arrays = {"ids": scores.ids, "logs": scores.logs}
    told = {**about, "v": _VERSION, "sha256": _digest(scores)}
    # One entry, because the library writes several in any order.
    data = save(arrays, {_ABOUT: json.dumps(told, sort_keys=True)})
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
    path.rename(final)
    sync_folder(final.parent)
    return len(data), hashlib.sha256(data).hexdigest()


class Shard:
    """A shard that has been looked through once, mapped into memory: nothing of it is loaded but
    what is asked for."""

    def __init__(self, path: Path, about: Mapping[str, str | int], *, verify: bool) -> None:
        """Raises ShardError where the file is not sound, or tells of something else."""
        self._file = _opened(path)
        said = _told(self._file)
        for key, value in {**about, "v": _VERSION}.items():
            if said.get(key) != value:
                raise ShardError(f"its {key} is {said.get(key)} and should be {value}")
        if verify and _digest(self[:]) != said.get("sha256"):
            raise ShardError("it does not have the sha256 that it was written with")

    def __getitem__(self, tokens: slice) -> Scores:
        ids, logs = (self._file.get_slice(name)[tokens] for name in ("ids", "logs"))
        return Scores(ids=ids, logs=logs)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="np")
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise ShardError(f"it cannot be read: {error}") from error


def _told(file: Any) -> dict[str, Any]:
    try:
        return dict(json.loads((file.metadata() or {})[_ABOUT]))
    except (KeyError, ValueError, TypeError):
        raise ShardError("it does not say what it is") from None


def _digest(scores: Scores) -> str:
    content = hashlib.sha256()
    for array in (scores.ids, scores.logs):
        content.update(f"{array.dtype} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()
