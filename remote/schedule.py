"""The learning rate as a function of samples, so that the world may change without changing it."""

import math
from collections.abc import Callable

SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda part: 0.5 * (1 + math.cos(math.pi * part)),
    "linear": lambda part: 1 - part,
    "constant": lambda part: 1.0,
}


def learning_rate(
    peak: float, shape: str, warmup: float, *, done: int, total: int, global_batch: int
) -> float:
    """The rate of the step that follows `done` committed samples of `total`. It rises over the
    first `warmup` samples (its first step is never at zero, also in a run of one step), then falls
    to zero at the end unless constant."""
    if done < warmup:
        return peak * (done + global_batch) / (warmup + global_batch)
    return peak * SHAPES[shape]((done - warmup) / (total - warmup))
