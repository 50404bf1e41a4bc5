"""Tells a training that falls apart from one that is only noisy. Pure: looks at losses, stops none.

The rule: a step is high when its loss is above `factor` times the lowest smoothed loss of the run
(taken as at least FLOOR, because chance alone multiplies a loss near zero), and a run of `patience`
high steps, one after the other, is a divergence.
"""

from collections.abc import Iterable
from typing import Any

SMOOTHING = 0.9
FLOOR = 0.5  # nats per token


class Watchdog:
    """`factor` 0 watches nothing. `history` is the run's log so far, where it is resumed."""

    def __init__(self, factor: float, patience: int, history: Iterable[dict[str, Any]]) -> None:
        self._factor = factor
        self._patience = patience
        self._smoothed: float | None = None
        self._lowest = float("inf")
        self._high_steps = 0
        for entry in history:
            if "loss" in entry:
                self._smooth(entry["loss"])

    def look(self, loss: float) -> str | None:
        """Takes a committed step's loss; returns what is wrong once it has been for too long."""
        limit = self._factor * max(self._lowest, FLOOR)
        self._high_steps = self._high_steps + 1 if self._factor and loss > limit else 0
        self._smooth(loss)
        if not self._factor or self._high_steps < self._patience:
            return None
        return (
            f"the loss is {loss:.3f} and has been above {self._factor:g} x its best "
            f"({self._lowest:.3f}) for {self._patience} steps, so the training diverges; lower "
            "learning_rate or raise warmup_ratio (loss_watchdog: 0 would let it go on)"
        )

    def _smooth(self, loss: float) -> None:
        before = loss if self._smoothed is None else self._smoothed
        self._smoothed = SMOOTHING * before + (1 - SMOOTHING) * loss
        self._lowest = min(self._lowest, self._smoothed)
