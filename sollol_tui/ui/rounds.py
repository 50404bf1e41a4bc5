"""Asks again and again for what the screens show: the state for a snapshot whenever it changed, the
hosts for their figures while somebody looks at them. Draws nothing; what fails is said, and tried
again.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from textual.message import Message
from textual.message_pump import MessagePump

from sollol_tui.model.snapshot import Snapshot
from sollol_tui.model.text import clean

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

_POLL_S: Final = 0.1  # how soon news is noticed
_CALM_POLL_S: Final = 0.3  # and after a while without any: the first of it comes a blink later
_CALM_AFTER_S: Final = 10.0
_NEWS_S: Final = 0.25  # between two snapshots while news keeps coming: a repaint costs 20-30 ms
_AGES_S: Final = 2.0  # without news, often enough for "4m ago" to be true
_PROBE_S: Final = 10.0


class Rounds:
    """`listener` hears of it by messages; `hosts_are_seen` says whether hosts are to be asked."""

    @dataclass
    class SnapshotTaken(Message):
        snapshot: Snapshot

    @dataclass
    class PollFailed(Message):
        reason: str

    @dataclass
    class Probed(Message):
        """All hosts were asked; `trouble` says why they could not be, "" when they could."""

        trouble: str

    def __init__(
        self, client: "SOLLOLClient", listener: MessagePump, hosts_are_seen: Callable[[], bool]
    ) -> None:
        self._client, self._listener, self._hosts_are_seen = client, listener, hosts_are_seen
        self._look_now, self._probe_now = asyncio.Event(), asyncio.Event()

    def look_now(self) -> None:
        """The next snapshot is taken whether or not anything changed."""
        self._look_now.set()

    def probe_now(self) -> None:
        """The next round of hosts begins at once, if anybody looks at them."""
        self._probe_now.set()

    async def poll(self) -> None:
        """Takes a snapshot whenever the state changed, and often enough for the ages on screen."""
        seen: int | None = None
        taken_at = news_at = 0.0
        while True:
            is_wanted = self._look_now.is_set()
            self._look_now.clear()
            try:
                version = await asyncio.to_thread(self._client.state_version)
                if version != seen or is_wanted:
                    news_at = time.monotonic()
                due_after = _AGES_S if version == seen else _NEWS_S
                if time.monotonic() - taken_at >= due_after or is_wanted:
                    snapshot = await asyncio.to_thread(self._client.snapshot)
                    seen, taken_at = version, time.monotonic()
                    self._listener.post_message(self.SnapshotTaken(snapshot))
                is_calm = time.monotonic() - news_at >= _CALM_AFTER_S
                pause = _CALM_POLL_S if is_calm else _POLL_S
            except Exception as error:  # whatever it is, the screen stays and says it
                self._listener.post_message(self.PollFailed(sentence(error)))
                pause = _AGES_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), pause)

    async def probe(self) -> None:
        """Asks the hosts for their figures while someone looks at them, one round at a time."""
        while True:
            self._probe_now.clear()
            if self._hosts_are_seen():
                trouble = ""
                try:
                    await self._client.probe_hosts()
                except Exception as error:  # the screen says it and the next round tries again
                    trouble = f"hosts cannot be asked: {sentence(error)}"
                self._listener.post_message(self.Probed(trouble))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._probe_now.wait(), _PROBE_S)


def sentence(error: Exception) -> str:
    """What a person is told of it."""
    return clean(str(error) or type(error).__name__, limit=400)
