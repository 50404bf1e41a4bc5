"""How a share is laid into micro-batches: like lengths side by side, or samples end to end.

Decides what is computed together, never what is learnt. Knows no model and computes nothing.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from remote.data.tokens import Batch, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Lines of samples laid end to end: three arrays of shape (lines, longest). A position of 0
    begins a sample; what fills a line up is one more sample, of which nothing is learnt."""

    ids: np.ndarray  # int64
    positions: np.ndarray  # int64
    labelled: np.ndarray  # bool; never true where a sample begins


@dataclass(slots=True, kw_only=True)
class Layout:
    """`size` is how many samples (packed: lines as long as the longest sample) lie in memory at
    once. It shrinks when they do not fit; the gradient of a share stays the same."""

    size: int
    packed: bool = False

    def micro_batches(
        self, rows: Rows, share: np.ndarray, pad_id: int
    ) -> Iterator[tuple[np.ndarray, Batch | Packed]]:
        """Yields every sample of the share exactly once, with those that it is computed with."""
        lengths = rows.lengths[share]
        if self.packed:
            lines = fill_lines(lengths, int(rows.lengths.max()))
            for some in _in_groups(lines, self.size):
                laid = [share[line] for line in some]
                yield np.concatenate(laid), pack(rows, laid, pad_id)
        else:
            by_length = share[np.argsort(-lengths, kind="stable")]
            for begin in range(0, len(by_length), self.size):
                samples = by_length[begin : begin + self.size]
                yield samples, rows.batch(samples, pad_id)


def fill_lines(lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Puts each sample, the longest first, into the emptiest line that still takes it, or into a
    new one; returns the places in `lengths`, line by line. No line is longer than `capacity`."""
    lines: list[list[int]] = []
    emptiest: list[tuple[int, int]] = []  # a heap of (tokens, line)
    for place in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[place])
        if emptiest and emptiest[0][0] + length <= capacity:
            tokens, line = heapq.heappop(emptiest)
        else:
            tokens, line = 0, len(lines)
            lines.append([])
        lines[line].append(place)
        heapq.heappush(emptiest, (tokens + length, line))
    return [np.array(line, dtype=np.int64) for line in lines]


def pack(rows: Rows, lines: list[np.ndarray], pad_id: int) -> Packed:
    """Lays the samples of each line end to end."""
    lengths = rows.lengths
    longest = max(int(lengths[line].sum()) for line in lines)
    ids = np.full((len(lines), longest), pad_id, dtype=np.int64)
    positions = np.zeros_like(ids)
    labelled = np.zeros(ids.shape, dtype=bool)
    for number, line in enumerate(lines):
        end = 0
        for row in line:
            begin, end = end, end + int(lengths[row])
            source = slice(int(rows.offsets[row]), int(rows.offsets[row + 1]))
            ids[number, begin:end] = rows.tokens[source]
            positions[number, begin:end] = np.arange(end - begin)
            labelled[number, begin:end] = rows.labelled[source]
            labelled[number, begin] = False
        positions[number, end:] = np.arange(longest - end)
    return Packed(ids=ids, positions=positions, labelled=labelled)


def _in_groups(lines: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    for begin in range(0, len(lines), size):
        yield lines[begin : begin + size]
