"""Which processor cores the ranks of a run compute on: whole cores, no two ranks on the same one,
and none that another run of this host holds as long as there are others. Moves nobody by itself.
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path

from remote.cgroup import cpu_quota
from remote.lease import hold_core
from remote.run import Run

_TOPOLOGY = Path("/sys/devices/system/cpu")
Core = frozenset[int]  # the processors (hardware threads) of one core


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The cores of a run's ranks by slot; none at all when the run may use every core. `shared`
    counts those that other runs hold too."""

    of_slot: dict[int, Core]
    shared: int = 0

    @property
    def sentence(self) -> str:
        """What people should know of it: that ranks are in each other's way."""
        if not self.shared:
            return ""
        parts = [f"slot {slot} on {_told(core)}" for slot, core in sorted(self.of_slot.items())]
        return f"processors: {', '.join(parts)}; cores of another run's among them: {self.shared}"


def usable_cores() -> list[Core]:
    """The cores that this process may run on, each with those of its processors it may use: what
    affinity and cpuset leave."""
    allowed = os.sched_getaffinity(0)
    found = {(_siblings(processor) & allowed) | {processor} for processor in allowed}
    return sorted(found, key=min)


def threads_of_rank(run: Run) -> int:
    """How many threads each of this host's ranks computes with: its part of the run's cores, and of
    the time that a control group grants. The same for the agent and for a rank that has been put
    on its cores."""
    ranks, there, quota = len(run.own_ranks), len(usable_cores()), cpu_quota()
    parts = [there // ranks] if run.cpu_cores is None else [run.cpu_cores // ranks, there]
    if quota is not None:
        parts.append(round(quota / ranks))
    return max(1, min(parts))


def deal(run: Run) -> Cores:
    """Gives each rank of this host its part of the run's `cpu_cores`, at least one, and holds them
    for as long as this process lives. Begins anywhere, because containers of one machine do not
    see what others hold."""
    if run.cpu_cores is None:
        return Cores(of_slot={})
    there, slots = usable_cores(), sorted(rank.slot for rank in run.own_ranks)
    first = random.randrange(len(there))
    there = [*there[first:], *there[:first]]
    wanted = min(max(run.cpu_cores, len(slots)), len(there))
    held: list[Core] = []
    for core in there:
        if len(held) < wanted and hold_core(min(core)) is not None:
            held.append(core)
    taken = [*held, *(core for core in there if core not in held)][:wanted]
    ranks, of_slot = len(slots), {}
    for place, slot in enumerate(slots):
        part = taken[place * wanted // ranks : (place + 1) * wanted // ranks]
        of_slot[slot] = frozenset[int]().union(*(part or [taken[place % wanted]]))
    return Cores(of_slot=of_slot, shared=wanted - len(held))


def _told(core: Core) -> str:
    return ",".join(map(str, sorted(core)))


def _siblings(processor: int) -> Core:
    """The processors that share a core with this one; itself where the kernel does not tell."""
    try:
        text = (_TOPOLOGY / f"cpu{processor}/topology/thread_siblings_list").read_text()
    except OSError:
        return frozenset({processor})
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
