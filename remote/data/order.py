"""Which samples a step consumes, and who computes them. Pure: a function of numbers in run.json.

The order never depends on the world: the same step has the same samples whoever computes them.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


def steps_of_run(rows: int, global_batch: int, epochs: int) -> int:
    return -(-rows * epochs // global_batch)


SHARED_SEED = 0  # of a first epoch that does not depend on the job's seed


def samples_of_step(
    seed: int, rows: int, global_batch: int, epochs: int, step: int, *, shared_first: bool = False
) -> np.ndarray:
    """The rows (int64) of step `step`, counted from 0: its slice of the epochs' permutations laid
    end to end, so that only the last step of the run may be shorter than the global batch. With
    `shared_first` the first epoch has the order of `shared_order`."""
    begin = step * global_batch
    end = min(begin + global_batch, rows * epochs)
    parts = []
    while begin < end:
        epoch, offset = divmod(begin, rows)
        is_shared = shared_first and epoch == 0
        order = shared_order(rows) if is_shared else _permutation(seed, epoch, rows)
        part = order[offset : offset + end - begin]
        parts.append(part)
        begin += len(part)
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def shared_order(rows: int) -> np.ndarray:
    """The order of a first epoch that all runs on the same rows share: a teacher scores them in it
    before anybody asks, and once for all."""
    return _permutation(SHARED_SEED, 0, rows)


@lru_cache(maxsize=3)
def _permutation(seed: int, epoch: int, rows: int) -> np.ndarray:
    # RandomState's stream is frozen by numpy's compatibility policy; default_rng's is not.
    source = np.random.MT19937(np.random.SeedSequence([seed, epoch]))
    order = np.random.RandomState(source).permutation(rows).astype(np.int64)
    order.flags.writeable = False
    return order


def deal(count: int, speeds: Sequence[float]) -> list[slice]:
    """Splits `count` samples into one contiguous share per rank, in proportion to the speeds; what
    rounding leaves goes to the largest remainders, the lower rank first."""
    whole = sum(speeds)
    exact = [count * speed / whole for speed in speeds]
    sizes = [int(size) for size in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda rank: (sizes[rank] - exact[rank], rank))
    for rank in by_remainder[: count - sum(sizes)]:
        sizes[rank] += 1
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
