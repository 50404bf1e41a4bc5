"""The one way a worker says something about itself: a JSON line in a file that it alone writes."""

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

VERSION = 1


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
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)

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
            view = memoryview(text.encode() + b"\n")
            while view:
                view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        os.close(self._descriptor)


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
