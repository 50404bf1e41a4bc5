"""What the coordinator wants of a rank that waits: obeyed where nobody is waiting for this rank.

In a step it is the loop that asks for orders, between steps; here is only what must not wait for
the next step, because none may ever come.
"""

import time
from collections.abc import Callable

from remote.control import Action
from remote.engine import DismissedError

LOOK_EVERY_S = 0.25
SAME_WAIT_S = 1.0  # between two looks: more, and it has not been waiting all the time
# Others hear the same order at the same time, and would rather end at the same step; and whoever
# leaves should be let go by the others first.
PATIENCE_S = {Action.STOP: 2.0, Action.LEAVE: 10.0, Action.KILL: 0.0}


class Orders:
    """`read` says what is wanted now."""

    def __init__(
        self, read: Callable[[], Action], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.wanted = Action.RUN
        self._read = read
        self._clock = clock
        self._looked_at = float("-inf")
        self._waiting_since = 0.0

    def obey(self, *, alone: bool = False, awaited: bool = False) -> None:
        """Called again and again while a rank waits. Raises DismissedError when it is to leave;
        where it is not `alone`, others may only be slow, and are given the time to come. Where it
        is `awaited`, because they need its part of a sum, it only leaves when it is killed."""
        now = self._clock()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        before, self.wanted = self.wanted, self._read()
        if self.wanted is not before or now - self._looked_at > SAME_WAIT_S:
            self._waiting_since = now
        self._looked_at = now
        if self.wanted is Action.RUN or (awaited and self.wanted is not Action.KILL):
            return
        at_once = alone and self.wanted is Action.STOP
        if at_once or now - self._waiting_since >= PATIENCE_S[self.wanted]:
            raise DismissedError(self.wanted)
