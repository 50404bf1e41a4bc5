"""What a follower of a job is told of its evidence, and how often. Prints nothing itself."""

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

_LOOK_EVERY_S: Final = 2.0
_SPEED_EVERY_S: Final = 60.0


class ProofTeller:
    """What a follower of a job has not been told of its evidence yet."""

    def __init__(self, client: "SOLLOLClient", job: str) -> None:
        self._client = client
        self._job = job
        self._looked_at = self._told_at = float("-inf")
        self._weights = ""
        self._step = -1

    def read(self, *, last: bool = False) -> list[str]:
        """Lines: every comparison of weights, and now and then how fast they are. `last` tells what
        is newest, whenever the last one was."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S and not last:
            return []
        self._looked_at = now
        evidence = self._client.evidence(self._job)
        lines = []
        if evidence.weights is not None and evidence.weights.sentence != self._weights:
            self._weights = evidence.weights.sentence
            lines.append(f"  weights {self._weights}")
        speed = evidence.speed
        if speed is None or speed.step <= self._step or len(speed.ranks) < 2:
            return lines
        if last or now - self._told_at >= _SPEED_EVERY_S:
            self._step, self._told_at = speed.step, now
            lines.append(f"  measured {evidence.speed_sentence}; {speed.losses}")
        return lines
