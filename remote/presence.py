"""A sign of life while a rank gets ready: to the other ranks through the engine, to people as an
event. Loading may take minutes on a slow machine, and only silence is taken for death."""

import threading

from remote.engine import Engine
from remote.events import EventWriter

BEAT_S = 5.0


class Presence:
    """Beats from a thread of its own for as long as the body of the `with` runs. `doing` is what
    people read; set it as the work goes on. Who works alone has no engine."""

    def __init__(self, engine: Engine | None, events: EventWriter, doing: str) -> None:
        self.doing = doing
        self._engine = engine
        self._events = events
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)

    def __enter__(self) -> "Presence":
        self._events.emit("loading", what=self.doing)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.is_set():
            if self._engine is not None:
                self._engine.say_alive()
            if not self._over.wait(BEAT_S):
                self._events.emit("loading", what=self.doing)
