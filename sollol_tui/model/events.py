"""Reads the JSON lines of workers. Tolerant: a newer or broken worker never raises."""

import json
from dataclasses import dataclass
from typing import Any, Final

VERSION: Final = 1
MAX_LINE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing a worker said. `at` is the worker's own clock: shown, never compared between hosts.
    `job` and `host` are what it claims to be of. `slot` is None for the agent; `data` is what the
    kind adds (docs/architecture.md)."""

    kind: str
    at: float
    job: str
    host: str
    slot: int | None
    attempt: int
    generation: int
    seq: int
    data: dict[str, Any]

    def number(self, key: str) -> float | None:
        """A finite number of the event's data, or None."""
        return finite(self.data.get(key))

    def count(self, key: str) -> int | None:
        """A whole number >= 0 of the event's data, or None."""
        return whole(self.data.get(key))

    def text(self, key: str) -> str:
        value = self.data.get(key)
        return value if isinstance(value, str) else ""


_COMMON: Final = ("v", "t", "kind", "job", "host", "slot", "attempt", "generation", "seq")


def decode(line: bytes) -> Event | None:
    """The event of one line, or None when it is not one: too long, not JSON, not an object, another
    version, or without the fields that every event has."""
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or raw.get("v") != VERSION:
        return None
    kind, at, slot = raw.get("kind"), raw.get("t"), raw.get("slot")
    job, host = raw.get("job"), raw.get("host")
    counts = [whole(raw.get(key)) for key in ("attempt", "generation", "seq")]
    if not isinstance(kind, str) or not _is_word(kind) or not _is_number(at):
        return None
    if not isinstance(job, str) or not isinstance(host, str):
        return None
    if None in counts or not (slot is None or whole(slot) is not None):
        return None
    data = {key: value for key, value in raw.items() if key not in _COMMON}
    attempt, generation, seq = (value or 0 for value in counts)
    return Event(
        kind=kind,
        at=float(at or 0),
        job=job,
        host=host,
        slot=slot,
        attempt=attempt,
        generation=generation,
        seq=seq,
        data=data,
    )


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 40 and text.isascii() and text.isprintable()


def finite(value: Any) -> float | None:
    """`value` when it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None


def whole(value: Any) -> int | None:
    """`value` when it is a whole number >= 0 that every JSON reader keeps exact, else None."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        return None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
