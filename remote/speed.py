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
        self._begin()

    def add(self, members: Members, spent: Spent, *, last: bool) -> dict[str, Any] | None:
        """Counts a step that `members` computed as their weights say; returns what its event tells,
        every TELL_EVERY_S and at the end. The first step of new members is none to measure."""
        if members.ranks != self._ranks:
            self._ranks = members.ranks
            self._begin()
            return None
        counts = [part.stop - part.start for part in deal(spent.samples, members.weights)]
        times = computing_times(counts, spent.speeds)
        slowest_s = max(times)
        self._steps += 1
        self._samples += spent.samples
        self._whole_s += spent.whole_s
        # What we waited for the slowest before anything could be added is no adding.
        self._adding_s += max(0.0, spent.until_summed_s - (slowest_s - times[members.place]))
        self._waiting_s += slowest_s - sum(times) / len(times)
        self._slowest[times.index(slowest_s)] += 1
        due = self._clock() - self._began_at >= TELL_EVERY_S
        if not (due or last) or self._steps < FEWEST_STEPS:
            return None
        told = self._tell(members, spent.speeds, counts)
        self._begin()
        return told

    def _begin(self) -> None:
        self._began_at = self._clock()
        self._steps = self._samples = 0
        self._whole_s = self._adding_s = self._waiting_s = 0.0
        self._slowest: Counter[int] = Counter()

    def _tell(
        self, members: Members, speeds: Sequence[float], counts: Sequence[int]
    ) -> dict[str, Any]:
        rate = self._samples / max(self._whole_s, 1e-9)
        hosts: Counter[str] = Counter()
        for rank, speed in zip(members.ranks, speeds, strict=True):
            hosts[rank.host] += speed  # type: ignore[assignment]  # samples/s, not a count
        [(best, alone)] = hosts.most_common(1)
        whole = sum(counts)
        slowest = members.ranks[self._slowest.most_common(1)[0][0]]
        return {
            "steps": self._steps,
            "samples_per_s": round(rate, 4),
            "step_s": round(self._whole_s / self._steps, 5),
            "adding_s": round(self._adding_s / self._steps, 5),
            "waiting_s": round(self._waiting_s / self._steps, 5),
            "sum_bytes": self._sum_bytes,
            "slowest_host": slowest.host if len(members.ranks) > 1 else "",
            "slowest_slot": slowest.slot if len(members.ranks) > 1 else None,
            "best_host": best,
            "speedup": round(rate / max(alone, 1e-9), 4),
            "efficiency": round(rate / max(sum(speeds), 1e-9), 4),
            "ranks": [
                {
                    "slot": rank.slot,
                    "host": rank.host,
                    "samples_per_s": round(speed, 4),
                    "share": round(count / whole, 5),
                }
                for rank, speed, count in zip(members.ranks, speeds, counts, strict=True)
            ],
        }


def computing_times(counts: Sequence[int], speeds: Sequence[float]) -> list[float]:
    """Seconds that each member computes its samples, by its moving speed; 0 where none is known."""
    return [
        count / speed if speed > 0 else 0.0 for count, speed in zip(counts, speeds, strict=True)
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
