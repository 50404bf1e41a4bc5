"""How a rank tells its agent that it takes steps, and how the agent tells slow from stuck. A rank
writes a few bytes at every step; nobody compares clocks, and nobody is ended here.
"""

import os
import struct
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from statistics import median

from remote.remains import TEMPORARY

RECENT_STEPS = 32
LEAST_STEPS = 5  # before that nobody knows how long a step takes
NAMED_AFTER_STEPS = 5.0  # of the median's length, and at least
NAMED_AFTER_S = 10.0
ENDED_AFTER_STEPS = 20.0
ENDED_AFTER_S = 60.0
COMPILED_ENDED_AFTER_S = 600.0  # samples of another length are compiled anew, in a step
_FORM = struct.Struct("<QQQdQ")


class Doing(IntEnum):
    """What a rank is at. Only the first two make a step; other work may take its time."""

    COMPUTING = 1
    WAITING = 2  # for the other ranks
    APART = 3  # a checkpoint, the held-out loss, the result


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a rank last said: how many steps it has taken since it began, how long one takes."""

    pid: int
    step: int
    taken: int
    median_s: float
    doing: Doing


class Pulse:
    """The rank's side. A disk that is full does not stop it: its bytes are there from the start."""

    def __init__(self, run_dir: Path, slot: int, attempt: int) -> None:
        path = pulse_file(run_dir, slot, attempt)
        path.parent.mkdir(exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        self._durations: deque[float] = deque(maxlen=RECENT_STEPS)
        self._step = self._taken = 0
        self._began = time.monotonic()
        self._median_s = 0.0
        self.now(Doing.APART)

    def now(self, doing: Doing) -> None:
        beat = (os.getpid(), self._step, self._taken, self._median_s, doing)
        os.pwrite(self._descriptor, _FORM.pack(*beat), 0)

    def begin_step(self) -> None:
        self._began = time.monotonic()
        self.now(Doing.WAITING)

    def took(self, step: int) -> None:
        """A step is committed."""
        self._durations.append(time.monotonic() - self._began)
        self._step, self._taken = step, self._taken + 1
        self._median_s = median(self._durations)
        self.now(Doing.APART)


def pulse_file(run_dir: Path, slot: int, attempt: int) -> Path:
    return run_dir / TEMPORARY / f"pulse.{slot}.{attempt}"


def read_pulse(run_dir: Path, slot: int, attempt: int) -> Beat | None:
    """What the rank last said; None before it began, and of one that says nothing readable."""
    try:
        data = pulse_file(run_dir, slot, attempt).read_bytes()
        pid, step, taken, median_s, doing = _FORM.unpack(data)
        return Beat(pid=pid, step=step, taken=taken, median_s=median_s, doing=Doing(doing))
    except (FileNotFoundError, struct.error, ValueError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A rank that takes no steps. `is_over` says that it goes on again, `is_hopeless` that it will
    not be waited for any longer."""

    slot: int
    beat: Beat
    seconds: float
    is_over: bool = False
    is_hopeless: bool = False


@dataclass(slots=True)
class _Known:
    beat: Beat
    seconds: float = 0.0  # since it last moved, as far as somebody looked
    is_named: bool = False
    is_given_up: bool = False


@dataclass(slots=True)
class Attention:
    """The agent's side: looks at the pulses again and again. `longest_look_s` is the most that can
    pass between two looks; when more did, the agent itself was stopped, and that is nobody's
    fault."""

    longest_look_s: float
    ended_after_s: float = ENDED_AFTER_S
    _looked_at: float | None = None
    _known: dict[int, _Known] = field(default_factory=dict)

    def look(
        self, pulses: Mapping[int, Beat | None], now: float, stopped: Collection[int] = ()
    ) -> list[Stall]:
        """What has changed: who is stuck, who goes on again, who is hopeless. Each is told once.
        A rank that waits for others is never hopeless, because another is to blame, and one that
        saves may take its time, unless a signal has `stopped` it."""
        passed = 0.0 if self._looked_at is None else min(now - self._looked_at, self.longest_look_s)
        self._looked_at = now
        for slot in self._known.keys() - pulses.keys():
            del self._known[slot]
        found = (
            self._judge(slot, beat, passed, is_blamed=slot in stopped)
            for slot, beat in pulses.items()
            if beat
        )
        return [stall for stall in found if stall]

    def _judge(self, slot: int, beat: Beat, passed: float, *, is_blamed: bool) -> Stall | None:
        known = self._known.get(slot)
        same = known and (known.beat.pid, known.beat.taken) == (beat.pid, beat.taken)
        takes_its_time = beat.doing is Doing.APART and not is_blamed
        if known is None or not same or takes_its_time:
            self._known[slot] = _Known(beat)
            if known is None or not known.is_named or known.beat.pid != beat.pid:
                return None
            return Stall(slot=slot, beat=beat, seconds=known.seconds, is_over=True)
        known.seconds += passed
        known.beat = beat
        if beat.taken < LEAST_STEPS or known.is_given_up:
            return None
        stall = Stall(slot=slot, beat=beat, seconds=known.seconds)
        named_after_s = max(NAMED_AFTER_STEPS * beat.median_s, NAMED_AFTER_S)
        if not known.is_named and known.seconds > named_after_s:
            known.is_named = True
            return stall
        hopeless = known.seconds > max(ENDED_AFTER_STEPS * beat.median_s, self.ended_after_s)
        if hopeless and (is_blamed or beat.doing is Doing.COMPUTING):
            known.is_given_up = True
            return Stall(slot=slot, beat=beat, seconds=known.seconds, is_hopeless=True)
        return None
