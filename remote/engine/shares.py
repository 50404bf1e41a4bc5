"""How large each member's share of a step is: in proportion to speed, as measured while training.

What is learnt does not depend on it; only the time does.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from remote.data.order import deal
from remote.engine import Tally

WORTHWHILE = 0.05  # of a step's time: less gain than this and the shares stay
NEWEST = 0.3  # what the newest measurement weighs in the moving average


def step_time(count: int, weights: Sequence[float], speeds: Sequence[float]) -> float:
    """Seconds until the last member has computed its share of `count` samples."""
    shares = deal(count, weights)
    return max(
        (share.stop - share.start) / speed for share, speed in zip(shares, speeds, strict=True)
    )


def redealt(count: int, weights: Sequence[float], speeds: Sequence[float]) -> tuple[float, ...]:
    """The weights to deal by from now on: the speeds where that makes steps of `count` samples
    shorter by more than WORTHWHILE, else the old ones. Who was not measured (0) counts as the mean
    of those who were."""
    measured = [speed for speed in speeds if speed > 0]
    usual = sum(measured) / len(measured) if measured else 1.0
    filled = tuple(speed if speed > 0 else usual for speed in speeds)
    now, then = step_time(count, weights, filled), step_time(count, filled, filled)
    return filled if then < (1 - WORTHWHILE) * now else tuple(weights)


class Shares:
    """The weights of the members, and our own speed, measured from `begin_step` to `with_speed`."""

    def __init__(
        self,
        count: int,
        speeds: Sequence[float],
        own_speed: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.own_speed = own_speed
        self.weights = redealt(count, [1.0] * len(speeds), speeds)
        self._count = count
        self._clock = clock
        self._began: float | None = None

    def begin_step(self) -> None:
        self._began = self._clock()

    def with_speed(self, tally: Tally, place: int) -> Tally:
        """The tally with our own speed in our place. Only the first sum after `begin_step` is that
        of a step."""
        if self._began is not None and tally.samples:
            newest = tally.samples / max(self._clock() - self._began, 1e-9)
            old = self.own_speed or newest
            self.own_speed = (1 - NEWEST) * old + NEWEST * newest
        self._began = None
        speeds = [0.0] * len(self.weights)
        speeds[place] = self.own_speed
        return replace(tally, speeds=tuple(speeds))

    def deal_by(self, speeds: Sequence[float]) -> None:
        """Deals the next steps by everybody's speeds, if it is worth while."""
        self.weights = redealt(self._count, self.weights, speeds)
