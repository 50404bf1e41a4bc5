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
    once at most. It shrinks when they do not fit; the gradient of a share stays the same.
    `call_tokens` is what one more micro-batch costs, as the tokens that would take as long."""

    size: int
    packed: bool = False
    call_tokens: int = 64

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
            for part in cut(rows.lengths[by_length], self.size, self.call_tokens):
                yield by_length[part], rows.batch(by_length[part], pad_id)


def cut(lengths: np.ndarray, size: int, call_tokens: int) -> list[slice]:
    """Cuts samples, the longest first, into micro-batches of at most `size`, so that tokens and
    calls together cost least; padding is made of tokens too."""
    costs = np.zeros(len(lengths) + 1, dtype=np.int64)  # of the first samples, cut at best
    begins = np.zeros(len(lengths) + 1, dtype=np.int64)  # of the last micro-batch among them
    for end in range(1, len(costs)):
        first = max(0, end - size)
        counts = np.arange(end - first, 0, -1)
        candidates = costs[first:end] + lengths[first:end] * counts + call_tokens
        best = int(candidates.argmin())
        costs[end], begins[end] = candidates[best], first + best
    parts, end = [], len(lengths)
    while end:
        parts.append(slice(int(begins[end]), end))
        end = int(begins[end])
    return parts[::-1]


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
