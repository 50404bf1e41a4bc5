"""The token file of a dataset: a folder of arrays with a manifest, whole or not there at all.

tokens.npy labelled.npy            all rows end to end; mapped, never loaded
lengths.npy label_counts.npy numbers.npy files.npy contents.npy    one entry per row
manifest.json                      written last: counts, digest, the size of every file
split-<val_size>/                  the same with the validation rows last
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remote.files import sync_folder, write_atomic

MANIFEST = "manifest.json"
LONG = {"tokens": np.int32, "labelled": np.bool_}  # an entry per token
SHORT = {  # an entry per row
    "lengths": np.int64,
    "label_counts": np.int64,
    "numbers": np.int64,
    "files": np.int32,
    "contents": np.uint64,
}
# Rows without an answer token within the limit; cut there; with answer tokens lost by that; with
# thinking, or tools, that the template does not show.
COUNTS = ("skipped", "truncated", "shortened", "hide_thinking", "hide_tools")
COPIED_ROWS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A token file that is whole. The first `training` rows are to be trained on."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def training(self) -> int:
        return int(self.manifest["training"])

    def array(self, name: str) -> np.ndarray:
        mode = "r" if name in LONG else None
        return np.load(self.folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)


def stored(folder: Path) -> Stored | None:
    """The token file in a folder; None where there is none or a file of it is not what it was."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if any((folder / name).stat().st_size != size for name, size in manifest["sizes"].items()):
            return None
    except (OSError, ValueError, KeyError):
        return None
    os.utime(folder)  # in use: whoever clears old ones away sees it
    return Stored(folder=folder, manifest=manifest)


def merge(shards: list[Path], target: Path, about: dict[str, Any]) -> Stored:
    """Lays the rows of the shards end to end."""
    with _Writer(target) as writer:
        counts = np.zeros(len(COUNTS), dtype=np.int64)
        highest = 0
        for shard in shards:
            with np.load(shard, allow_pickle=False) as arrays:
                rows = {name: arrays[name] for name in (*LONG, *SHORT) if name != "files"}
                counts += arrays["counts"]
            highest = max(highest, int(rows["tokens"].max(initial=0)))
            rows["files"] = np.full(len(rows["lengths"]), int(shard.name.partition(".")[0]))
            writer.add(rows)
        found = dict(zip(COUNTS, counts.tolist(), strict=True))
        return writer.finish(about | found | {"highest_token": highest}, training=writer.rows)


def split(whole: Stored, val_size: float, target: Path) -> Stored:
    """A copy with the validation rows last. A row's side follows from its content alone: the same
    row is always on the same side, whatever else the dataset holds."""
    limit = np.uint64(min(int(val_size * 2**64), 2**64 - 1))
    is_validation = whole.array("contents") < limit
    with _Writer(target) as writer:
        for side in (~is_validation, is_validation):
            for rows in _chosen(whole, side):
                writer.add(rows)
        return writer.finish(whole.manifest, training=int((~is_validation).sum()))


def _chosen(whole: Stored, chosen: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    short = {name: whole.array(name) for name in SHORT}
    ends = np.cumsum(short["lengths"])
    for begin in range(0, len(chosen), COPIED_ROWS):
        rows = slice(begin, begin + COPIED_ROWS)
        here = chosen[rows]
        lengths = short["lengths"][rows]
        span = slice(int(ends[begin] - lengths[0]), int(ends[rows][-1]))
        tokens_here = np.repeat(here, lengths)
        # Mapped anew for each piece: what was read does not stay in memory.
        long = {name: whole.array(name)[span][tokens_here] for name in LONG}
        yield long | {name: values[rows][here] for name, values in short.items()}


class _Writer:
    """Writes a token file beside its place and puts it there when it is whole."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._short: dict[str, list[np.ndarray]] = {name: [] for name in SHORT}
        self._written = 0
        self.rows = 0

    def __enter__(self) -> "_Writer":
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(mode=0o700)
        self._long = {name: (self._part / f"{name}.npy").open("wb+") for name in LONG}
        for name in LONG:
            self._write_header(name)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            for file in self._long.values():
                file.close()
        finally:  # a full disk may refuse the last bytes too
            shutil.rmtree(self._part, ignore_errors=True)

    def add(self, rows: dict[str, np.ndarray]) -> None:
        for name, kind in LONG.items():
            self._long[name].write(rows[name].astype(kind).tobytes())
        for name, kind in SHORT.items():
            self._short[name].append(rows[name].astype(kind))
        self._written += len(rows["tokens"])
        self.rows += len(rows["lengths"])

    def finish(self, about: dict[str, Any], training: int) -> Stored:
        for name, file in self._long.items():
            self._write_header(name)
            file.flush()
            os.fsync(file.fileno())
        for name, kind in SHORT.items():
            values = np.concatenate([np.empty(0, dtype=kind), *self._short[name]])
            with (self._part / f"{name}.npy").open("wb") as short:
                np.save(short, values)
                short.flush()
                os.fsync(short.fileno())
        names = [f"{name}.npy" for name in (*LONG, *SHORT)]
        manifest = about | {
            "training": training,
            "rows": self.rows,
            "sizes": {name: (self._part / name).stat().st_size for name in names},
        }
        whole = Stored(folder=self._part, manifest=manifest)
        manifest["digests"] = [
            _digest(whole, slice(0, training)),
            _digest(whole, slice(training, None)),
        ]
        write_atomic(self._part / MANIFEST, json.dumps(manifest, indent=1).encode())
        shutil.rmtree(self._target, ignore_errors=True)
        self._part.rename(self._target)
        sync_folder(self._target.parent)
        return Stored(folder=self._target, manifest=manifest)

    def _write_header(self, name: str) -> None:
        """The head of a .npy file. Its length does not depend on how many entries follow: numpy
        leaves room for the first dimension to grow."""
        file = self._long[name]
        file.seek(0)
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(LONG[name])),
            "fortran_order": False,
            "shape": (self._written,),
        }
        np.lib.format.write_array_header_1_0(file, header)


def _digest(whole: Stored, rows: slice) -> str:
    """Equal for two token files exactly when the same tokens and labels are trained on."""
    lengths = whole.array("lengths")
    ends = np.concatenate([[0], np.cumsum(lengths)])
    begin, end = int(ends[:-1][rows][0]) if len(lengths[rows]) else 0, 0
    end = begin + int(lengths[rows].sum())
    content = hashlib.sha256(lengths[rows].tobytes())
    for name in LONG:
        for at in range(begin, end, 1 << 22):
            content.update(whole.array(name)[at : min(at + (1 << 22), end)].tobytes())
    return content.hexdigest()
