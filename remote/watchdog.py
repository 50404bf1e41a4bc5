"""Tells a training that falls apart from one that is only noisy. Pure: looks at losses, stops none.

The rule: a step is high when its loss is above `factor` times the lowest smoothed loss of the run
(taken as at least FLOOR, because chance alone multiplies a loss near zero), and a run of `patience`
high steps, one after the other, is a divergence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

SMOOTHING = 0.9
FLOOR = 0.5  # nats per token


@dataclass(slots=True, kw_only=True)
class Trend:
    """How the losses of the run went so far; all that a watchdog remembers."""

    smoothed: float | None = None
    lowest: float | None = None  # of the smoothed ones
    high_steps: int = 0  # in a row

    @classmethod
    def of_history(cls, history: Iterable[dict[str, Any]]) -> Self:
        """As far as the run's log tells it."""
        trend = cls()
        for entry in history:
            if "loss" in entry:
                trend.take(entry["loss"])
        return trend

    def take(self, loss: float) -> None:
        before = loss if self.smoothed is None else self.smoothed
        self.smoothed = SMOOTHING * before + (1 - SMOOTHING) * loss
        self.lowest = self.smoothed if self.lowest is None else min(self.lowest, self.smoothed)


class Watchdog:
    """`factor` 0 watches nothing."""

    def __init__(self, factor: float, patience: int, trend: Trend) -> None:
        self._factor = factor
        self._patience = patience
        self._trend = trend

    def look(self, loss: float) -> str | None:
        """Takes a committed step's loss; returns what is wrong once it has been for too long."""
        trend, lowest = self._trend, self._trend.lowest
        high = lowest is not None and loss > self._factor * max(lowest, FLOOR)
        trend.high_steps = trend.high_steps + 1 if self._factor and high else 0
        trend.take(loss)
        if not self._factor or trend.high_steps < self._patience:
            return None
        return (
            f"the loss is {loss:.3f} and has been above {self._factor:g} x its best "
            f"({trend.lowest:.3f}) for {self._patience} steps, so the training diverges; lower "
            "learning_rate or raise warmup_ratio (loss_watchdog: 0 would let it go on)"
        )
