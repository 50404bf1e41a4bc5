"""A small lighthouse in every rank, where those who stay meet while the usual one still counts who
has left: it takes 1.5 s to notice, and can be told of no departure. Decides nothing, and is never
asked by who joins.
"""

import threading
import time
from typing import Any

from remote.engine.lighthouse import BEAT_S, CALL_TIMEOUT, DEAD_AFTER_MS, client_of, port_of, serve
from remote.engine.voice import Voice
from remote.run import Lighthouse

SILENT_S = DEAD_AFTER_MS / 1000
STAYS_S = SILENT_S + 0.5  # by then the usual lighthouse counts no one who has left
UNUSED_S = 5.0  # a visit that came to nothing ends by itself


class Sidelight:
    """The one that this rank keeps. Who leaves next has never been heard there."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._server = serve(address, 0)
        self._last: Any = None

    @property
    def port(self) -> int:
        return port_of(self._server)

    def renew(self) -> None:
        """The one that was used stays until the next time: an answer may still be on its way."""
        self._last, self._server = self._server, serve(self._address, 0)


class Visit:
    """Our beats at the sidelight of `keeper`, which make that we are waited for there."""

    def __init__(self, keeper: Voice, replica: str) -> None:
        self.keeper = keeper.replica
        self.lighthouse = Lighthouse(
            host=keeper.host, address=keeper.address, port=keeper.sidelight
        )
        self._replica = replica
        self._client: Any = None
        self._heard_at = time.monotonic()
        self._began_at = self._heard_at
        self._asks_since: float | None = None
        self._over = threading.Event()

    def begin(self) -> bool:
        """Whether we are counted there; from now on that stays so."""
        if not self._beat():
            return False
        threading.Thread(target=self._go_on, name="visit", daemon=True).start()
        return True

    def ask_here(self) -> None:
        self._asks_since = time.monotonic()

    @property
    def goes_on(self) -> bool:
        return not self._over.is_set()

    @property
    def is_asked(self) -> bool:
        """Whether this is where we ask."""
        return self._asks_since is not None and self.goes_on

    @property
    def has_served(self) -> bool:
        """Whether all may go back to the usual lighthouse."""
        since = self._asks_since
        return since is not None and time.monotonic() - since > STAYS_S

    def end(self) -> None:
        self._over.set()

    def _go_on(self) -> None:
        while not self._over.wait(BEAT_S):
            now = time.monotonic()
            if not self._beat() and now - self._heard_at > SILENT_S:
                self.end()
            if self._asks_since is None and now - self._began_at > UNUSED_S:
                self.end()

    def _beat(self) -> bool:
        try:
            self._client = self._client or client_of(self.lighthouse)
            self._client.heartbeat(self._replica, timeout=CALL_TIMEOUT)
        except (OSError, RuntimeError):
            self._client = None
            return False
        self._heard_at = time.monotonic()
        return True
