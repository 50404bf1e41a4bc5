"""How far a run is and how fast: recent speed, time left, history, and the lines of the log."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WINDOW_S = 20.0
TELL_EVERY_S = 0.2
LINE_EVERY_S = 1.0
HISTORY_ENTRIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """One step, as it was committed. `step` counts from 1; `loss` is per token."""

    step: int
    samples_done: int
    epoch: float
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    sync_s: float
    ce: float | None = None  # per token, where the loss is also made of a divergence
    kl: float | None = None  # per token, from the teacher

    def parts(self) -> dict[str, float]:
        """What the loss is made of, where it is more than cross-entropy."""
        named = {"ce": self.ce, "kl": self.kl}
        return {name: value for name, value in named.items() if value is not None}


class Progress:
    def __init__(
        self,
        max_steps: int,
        samples_total: int,
        samples_done: int,
        history: list[dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_steps = max_steps
        self._samples_total = samples_total
        self._clock = clock
        self._recent = deque([(clock(), samples_done)])
        self._told_at = self._said_at = float("-inf")
        self._history_every = logging_steps(max_steps)
        self.history = history

    def add(self, done: Committed, *, last: bool) -> dict[str, Any] | None:
        """Counts a committed step; returns what its event says. None when one was told less than
        TELL_EVERY_S ago and more will come: a loop may be faster than anyone reads."""
        now = self._clock()
        self._recent.append((now, done.samples_done))
        while len(self._recent) > 2 and now - self._recent[0][0] > WINDOW_S:
            self._recent.popleft()
        since, samples_then = self._recent[0]
        speed = (done.samples_done - samples_then) / max(now - since, 1e-6)
        eta_s = (self._samples_total - done.samples_done) / speed
        if done.step % self._history_every == 0 or done.step == self._max_steps:
            self.history.append(
                {
                    "step": done.step,
                    "epoch": done.epoch,
                    "loss": done.loss,
                    "learning_rate": done.lr,
                    "grad_norm": done.grad_norm,
                }
                | done.parts()
            )
        if now - self._told_at < TELL_EVERY_S and not last:
            return None
        self._told_at = now
        return {
            "step": done.step,
            "max_steps": self._max_steps,
            "samples_done": done.samples_done,
            "samples_total": self._samples_total,
            "tokens": done.tokens,
            "loss": done.loss,
            "lr": done.lr,
            "grad_norm": done.grad_norm,
            "samples_per_s": round(speed, 3),
            "eta_s": round(eta_s, 1),
            "sync_s": round(done.sync_s, 4),
        } | done.parts()

    def line(self, event: dict[str, Any]) -> str | None:
        """The log's line for a step's event, at most one a second and always the last."""
        now = self._clock()
        if now - self._said_at < LINE_EVERY_S and event["step"] < self._max_steps:
            return None
        self._said_at = now
        width = len(str(self._max_steps))
        parts = "".join(f"  {name} {event[name]:.3f}" for name in ("ce", "kl") if name in event)
        return (
            f"[{event['step']:>{width}}/{self._max_steps}] loss {event['loss']:.3f}{parts}  "
            f"{event['samples_per_s']:.1f} smp/s  ETA {duration(event['eta_s'])}"
        )


def logging_steps(max_steps: int) -> int:
    """Of how many steps the history keeps one."""
    return -(-max_steps // HISTORY_ENTRIES)


def duration(seconds: float) -> str:
    """Two units, as one would say it: 11h 25m, 3m 20s, 45s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    first = next((place for place, (value, _) in enumerate(units) if value), 3)
    return " ".join(f"{value}{unit}" for value, unit in units[first : first + 2])
