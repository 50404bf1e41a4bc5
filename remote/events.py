"""The one way a worker says something about itself: a JSON line in a file that it alone writes. A
full disk delays lines and tears none.
"""

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

from remote.attempts import events_file
from remote.disk import is_full
from remote.run import Run

VERSION = 1
BACKLOG_BYTES = 1024**2  # how much waits for room on the disk; what comes then is lost
LAST_WORDS_S = 20.0  # how long a rank that leaves waits for room
_POLL_S = 0.1


class EventWriter:
    """Appends events to one file. Thread-safe; each line reaches the kernel in one write."""

    def __init__(
        self, path: Path, *, job: str, host: str, slot: int | None, attempt: int, generation: int
    ) -> None:
        self._common: dict[str, Any] = {
            "job": job,
            "host": host,
            "slot": slot,
            "attempt": attempt,
            "generation": generation,
        }
        self.attempt = attempt
        self._seq = 0
        self._backlog = bytearray()
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)

    @classmethod
    def of_run(cls, run: Run, run_dir: Path, slot: int | None, attempt: int) -> "EventWriter":
        """What an attempt of a rank, or of the agent (None), says of this run."""
        return cls(
            events_file(run_dir, "agent" if slot is None else str(slot), attempt),
            job=run.job,
            host=run.host,
            slot=slot,
            attempt=attempt,
            generation=run.generation,
        )

    def emit(self, kind: str, **data: Any) -> None:
        """Writes one event. Numbers that are not finite become text ("nan"): JSON has none."""
        with self._lock:
            line = {
                "v": VERSION,
                "t": round(time.time(), 3),
                "kind": kind,
                **self._common,
                "seq": self._seq,
                **data,
            }
            self._seq += 1
            text = json.dumps(_finite(line), separators=(",", ":"), allow_nan=False)
            if len(self._backlog) < BACKLOG_BYTES:
                self._backlog += text.encode() + b"\n"
            self._write()

    def catch_up(self, patience_s: float = 0.0) -> bool:
        """Writes what a full disk has delayed, and waits so long for room; whether nothing is
        left."""
        deadline = time.monotonic() + patience_s
        while True:
            with self._lock:
                is_done = self._write()
            if is_done or time.monotonic() >= deadline:
                return is_done
            time.sleep(_POLL_S)

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self) -> bool:
        try:
            while self._backlog:
                del self._backlog[: os.write(self._descriptor, self._backlog)]
        except OSError as error:
            if not is_full(error):
                raise
        return not self._backlog


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(key): _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
