"""How fast the ranks are, each and together, and where the time of a step goes: computing, waiting
for the slowest, adding up. Measures only; shares are dealt elsewhere.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from remote.data.order import deal
from remote.engine import Members
from remote.engine.shares import NEWEST
from remote.run import Rank

TELL_EVERY_S = 10.0
FEWEST_STEPS = 2  # before anything is told of a window


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """A committed step on this rank's clock: all of it, and from its own part computed to the sum
    there, which is waiting and adding. `speeds` are the members', samples/s, by place."""

    samples: int
    whole_s: float
    until_summed_s: float
    speeds: tuple[float, ...]


class Speeds:
    """Adds up steps of the same members, and tells of them now and then."""

    def __init__(self, sum_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`sum_bytes` is what one rank gives to a sum."""
        self._sum_bytes = sum_bytes
        self._clock = clock
        self._ranks: tuple[Rank, ...] = ()
        self._averages: Sequence[float] = ()  # as the last step told them
        self._counts: list[int] = []
        self._times: list[float] = []
        self._begin()

    def add(self, members: Members, spent: Spent, *, last: bool) -> dict[str, Any] | None:
        """Counts a step that `members` computed as their weights say; returns what its event tells,
        every TELL_EVERY_S and at the end. The first step of new members is none to measure."""
        averages, self._averages = self._averages, spent.speeds
        if members.ranks != self._ranks:
            self._ranks = members.ranks
            self._begin()
            return None
        counts = [part.stop - part.start for part in deal(spent.samples, members.weights)]
        times = [
            count / speed if speed > 0 else 0.0
            for count, speed in zip(counts, newest(averages, spent.speeds), strict=True)
        ]
        slowest_s = max(times)
        self._steps += 1
        self._samples += spent.samples
        self._whole_s += spent.whole_s
        # What we waited for the slowest before anything could be added is no adding.
        self._adding_s += max(0.0, spent.until_summed_s - (slowest_s - times[members.place]))
        self._waiting_s += slowest_s - sum(times) / len(times)
        self._slowest[times.index(slowest_s)] += 1
        self._counts = [sum(pair) for pair in zip(self._counts, counts, strict=True)]
        self._times = [sum(pair) for pair in zip(self._times, times, strict=True)]
        due = self._clock() - self._began_at >= TELL_EVERY_S
        if not (due or last) or self._steps < FEWEST_STEPS:
            return None
        told = self._tell()
        self._begin()
        return told

    def _begin(self) -> None:
        self._began_at = self._clock()
        self._steps = self._samples = 0
        self._whole_s = self._adding_s = self._waiting_s = 0.0
        self._slowest: Counter[int] = Counter()
        self._counts = [0] * len(self._ranks)
        self._times = [0.0] * len(self._ranks)

    def _tell(self) -> dict[str, Any]:
        rate = self._samples / max(self._whole_s, 1e-9)
        speeds = [
            count / took_s if took_s > 0 else average
            for count, took_s, average in zip(
                self._counts, self._times, self._averages, strict=True
            )
        ]
        hosts: dict[str, float] = {}
        for rank, speed in zip(self._ranks, speeds, strict=True):
            hosts[rank.host] = hosts.get(rank.host, 0.0) + speed
        best = max(hosts, key=lambda host: hosts[host])
        slowest = self._ranks[self._slowest.most_common(1)[0][0]]
        return {
            "steps": self._steps,
            "samples_per_s": round(rate, 4),
            "step_s": round(self._whole_s / self._steps, 5),
            "adding_s": round(self._adding_s / self._steps, 5),
            "waiting_s": round(self._waiting_s / self._steps, 5),
            "sum_bytes": self._sum_bytes,
            "slowest_host": slowest.host if len(self._ranks) > 1 else "",
            "slowest_slot": slowest.slot if len(self._ranks) > 1 else None,
            "best_host": best,
            "speedup": round(rate / max(hosts[best], 1e-9), 4),
            "efficiency": round(rate / max(sum(speeds), 1e-9), 4),
            "ranks": [
                {
                    "slot": rank.slot,
                    "host": rank.host,
                    "samples_per_s": round(speed, 4),
                    "share": round(count / self._samples, 5),
                }
                for rank, speed, count in zip(self._ranks, speeds, self._counts, strict=True)
            ],
        }


def newest(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """Each member's speed in the last step alone: the tally carries moving averages, which lag."""
    if len(before) != len(after):
        return list(after)
    return [
        (new - (1 - NEWEST) * old) / NEWEST if old > 0 else new
        for old, new in zip(before, after, strict=True)
    ]


def line_of(told: dict[str, Any]) -> str:
    """The log's line for an event."""
    each = ", ".join(f"{rank['host']} {rank['samples_per_s']:.3g}" for rank in told["ranks"])
    if len(told["ranks"]) == 1:
        return f"speed: {told['samples_per_s']:.3g} smp/s"
    return (
        f"speed: {told['samples_per_s']:.3g} smp/s, {told['speedup']:.2f}x {told['best_host']} "
        f"alone ({each} smp/s); of {told['step_s']:.3g} s a step {told['adding_s']:.2g} s adding "
        f"up, {told['waiting_s']:.2g} s waiting for the slowest, {told['slowest_host']}"
    )
