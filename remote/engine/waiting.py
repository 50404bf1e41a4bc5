"""What a rank tells of those without whom no step may be taken: for whom it waits, and before the
start who has been silent for too long. Does not wait itself.
"""

import time
from collections.abc import Callable, Sequence

from remote.engine import WorldError
from remote.engine.loading import who_is_loading
from remote.engine.quorum import Wait
from remote.engine.voice import Voice
from remote.run import Lighthouse, Run

LOADING_S = 20.0  # without a word from it a rank that loads is silent; it speaks every 5 s


class Waiting:
    def __init__(
        self,
        run: Run,
        job: str,
        lighthouses: Sequence[Lighthouse],
        say: Callable[[str], None],
    ) -> None:
        self._run = run
        self._job = job
        self._lighthouses = lighthouses
        self._say = say
        self._said = ""
        self._began = 0.0
        self._hosts = {
            rank.slot: f"{rank.host} (slot {rank.slot}, {rank.address})" for rank in run.world
        }
        self._last_sign: dict[int, float] = {}  # when a rank that is not ready was last heard of

    def begin(self) -> None:
        """A step may be waited for from now on."""
        self._began = time.monotonic()

    def is_over(self) -> None:
        """What is said next is news, even if it was said before."""
        self._said = ""

    def tell(self, ruling: Wait, voices: Sequence[Voice], members: Sequence[int]) -> None:
        """Says once for whom it waits. Raises WorldError when a job of these members has not begun
        and some of them have given no sign of life for `start_timeout`."""
        for voice in voices:
            self._hosts[voice.slot] = f"{voice.name[:-1]}, {voice.address})"
        started = any(voice.holds for voice in voices)
        if not started and (silent := self._silent(ruling.absent)):
            raise WorldError(
                f"{len(silent)} of {len(members)} ranks were silent for "
                f"{self._run.start_timeout_s:g} s: {self._named(silent)}; see their logs, or raise "
                "start_timeout"
            )
        absent = self._named(ruling.absent)
        reason = f"waiting for {absent}: {ruling.reason}" if absent else ruling.reason
        if started and reason != self._said:
            self._said = reason
            self._say(reason)

    def _silent(self, absent: Sequence[int]) -> list[int]:
        now, limit_s = time.monotonic(), self._run.start_timeout_s

        def silent() -> list[int]:
            last = {slot: max(self._began, self._last_sign.get(slot, 0.0)) for slot in absent}
            return [slot for slot in absent if now - last[slot] > limit_s]

        if silent():
            for slot in who_is_loading(self._lighthouses, self._job, LOADING_S):
                self._last_sign[slot] = now
        return silent()

    def _named(self, slots: Sequence[int]) -> str:
        return ", ".join(self._hosts.get(slot, f"slot {slot}") for slot in slots)
