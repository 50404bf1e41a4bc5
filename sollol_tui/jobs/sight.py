"""Who is lost because it was out of sight for too long, and whether those who are left wait in
vain. Pure: it takes what was seen and the time; what a loss means is told in recovery.py."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

LOST_AFTER_S: Final = 20.0  # out of sight while others are seen; seeing that takes 10 s more
APART_LOST_AFTER_S: Final = 600.0  # a student who learns apart goes on where nobody sees it
STUCK_AFTER_S: Final = 15.0  # without a step, once a worker is lost: longer than an election takes
STUCK_AFTER_STEPS: Final = 5.0  # and longer than so many steps took before
_LONGEST_LOOK_S: Final = 1.0  # what lies between two looks counts for no more: we may have slept


@dataclass(slots=True)
class Spells:
    """For how long each of some things has been so, in seconds during which somebody looked: the
    time that this machine slept through does not count."""

    _lasted: dict[str, float] = field(default_factory=dict)
    _looked_at: float | None = None

    def look(self, now: float, so: Collection[str]) -> None:
        """At `now`, a monotonic clock, these are so and no others."""
        passed = 0.0 if self._looked_at is None else min(now - self._looked_at, _LONGEST_LOOK_S)
        self._looked_at = now
        self._lasted = {name: self._lasted.get(name, -passed) + passed for name in so}

    def pause(self, now: float) -> None:
        """What passed until `now` does not count: nothing could be seen."""
        self._looked_at = now

    def lasted_s(self, name: str) -> float:
        return self._lasted.get(name, 0.0)


@dataclass(slots=True)
class Sight:
    """Judges which workers are lost because they have been out of sight for too long, and whether
    those who are left wait in vain. `witnesses` are the workers on other machines: while none of
    them is seen it is this machine that lost its network, and nothing is judged. Of workers who
    learn apart nobody needs the others, so that the job can wait for one that may go on."""

    witnesses: frozenset[str] = frozenset()
    is_apart: bool = False
    _unseen: Spells = field(default_factory=Spells)
    _idle: Spells = field(default_factory=Spells)

    def look(self, now: float, unseen: Collection[str], *, stepped: bool, all_step: bool) -> None:
        """`stepped`: a step was committed since the last look; `all_step`: by all who were planned,
        so whoever is out of our sight takes part."""
        if self.witnesses and self.witnesses <= set(unseen):
            self._unseen.pause(now)
            self._idle.pause(now)
            return
        if all_step:
            self._unseen.look(now, ())
        self._unseen.look(now, unseen)
        if stepped:
            self._idle.look(now, ())
        self._idle.look(now, ("idle",))

    @property
    def lost_after_s(self) -> float:
        return APART_LOST_AFTER_S if self.is_apart else LOST_AFTER_S

    @property
    def lost(self) -> set[str]:
        return {host for host in self.witnesses if self._unseen.lasted_s(host) >= self.lost_after_s}

    def is_stuck(self, step_s: float) -> bool:
        """Whether no step has come for longer than the members need to agree anew; `step_s` is how
        long one took."""
        return self._idle.lasted_s("idle") > max(STUCK_AFTER_S, STUCK_AFTER_STEPS * step_s)
