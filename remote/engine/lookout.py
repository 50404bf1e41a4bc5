"""A rank's view of the lighthouses: asks one of them who is there, beats so that it is counted, and
moves on to the next when that one falls silent. Knows nothing of steps and weights."""

import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any

from remote.engine.lighthouse import coordination
from remote.engine.loading import NOT_BEGUN
from remote.engine.voice import Voice
from remote.run import Lighthouse

BEAT_S = 0.4  # a lighthouse takes 1.5 s without one for death
SILENT_S = 5.0  # without an answer: on to the next lighthouse
CALL_TIMEOUT_S = 1.0
ASK_TIMEOUT_S = 600.0  # an answer may take the slowest rank's step
PAUSE_S = 0.2  # between two tries that came to nothing
LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The same for everybody whose voice is in it."""

    quorum_id: int
    voices: tuple[Voice, ...]


class Lookout:
    def __init__(
        self, lighthouses: Sequence[Lighthouse], replica: str, say: Callable[[str], None]
    ) -> None:
        coordination()  # a host without torchft is told so now
        self._lighthouses = tuple(lighthouses)
        self._replica = replica
        self._say = say
        self._lock = threading.Lock()
        self._place = 0  # counts on for ever; the lighthouse is this modulo their number
        self._heard_at = time.monotonic()
        self._answered_at = self._heard_at
        self._over = threading.Event()
        self._passed_over: set[Lighthouse] = set()  # said once, until it is heard again
        self._asker: tuple[int, Any] | None = None
        self._counted = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="beats", daemon=True)

    @property
    def where(self) -> str:
        return ", ".join(f"{each.host} ({each.address}:{each.port})" for each in self._lighthouses)

    @property
    def silent_for_s(self) -> float:
        """How long no lighthouse has answered anything."""
        return time.monotonic() - self._answered_at

    def begin(self, timeout_s: float, meanwhile: Callable[[], None]) -> bool:
        """From now on this rank is counted, and waited for, while it lives. Its beats go on before
        it asks, so that it is not taken for dead while a busy host connects it a second time. False
        when no lighthouse answered. `meanwhile` is called while it waits, and may raise."""
        self._beats.start()
        deadline = time.monotonic() + timeout_s
        while not self._counted.wait(LOOK_S):
            meanwhile()
            if time.monotonic() > deadline:
                return False
        return True

    def ask(self, voice: Voice, meanwhile: Callable[[], None]) -> Answer:
        """Waits until everybody who beats has asked, or has been given up by the lighthouse.
        `meanwhile` is called while it waits, and may raise."""
        while True:
            place = self._place
            answer: SimpleQueue[Answer | None] = SimpleQueue()
            # Its own thread, which nobody waits for: a call to a host that is gone returns late,
            # and whoever asks has orders to hear meanwhile.
            threading.Thread(
                target=self._call, args=(place, voice, answer), name="ask", daemon=True
            ).start()
            while place == self._place:
                try:
                    outcome = answer.get(timeout=LOOK_S)
                except Empty:
                    meanwhile()
                    continue
                if outcome is not None:
                    self._hear(place)
                    return outcome
                meanwhile()
                break

    def move_on(self, place: int | None = None) -> None:
        """Asks the next lighthouse from now on, unless somebody has moved on from `place`."""
        with self._lock:
            if place is not None and place != self._place:
                return
            self._place += 1
            # Ranks that move in step could miss each other for ever.
            self._heard_at = time.monotonic() + random.uniform(0, SILENT_S / 4)

    def close(self) -> None:
        self._over.set()

    def _call(self, place: int, voice: Voice, answer: "SimpleQueue[Answer | None]") -> None:
        """Puts what the lighthouse answered, or None once it is judged why it did not."""
        try:
            if self._asker is None or self._asker[0] != place:
                self._asker = (place, self._connect(place))
            quorum = self._asker[1].quorum(
                self._replica,
                timeout=timedelta(seconds=ASK_TIMEOUT_S),
                step=voice.step + 1 if voice.holds else NOT_BEGUN,
                world_size=1,
                data=voice.data(),
            )
        except (OSError, RuntimeError):  # TimeoutError is an OSError
            self._asker = None
            self._over.wait(PAUSE_S)
            self._judge(place)
            answer.put(None)
            return
        heard = (Voice.of_data(participant.data) for participant in quorum.participants)
        answer.put(
            Answer(
                quorum_id=quorum.quorum_id,
                voices=tuple(voice for voice in heard if voice is not None),
            )
        )

    def _connect(self, place: int) -> Any:
        """A client; an OSError when nothing listens, which the client's own retries would hide."""
        lighthouse = self._lighthouses[place % len(self._lighthouses)]
        socket.create_connection((lighthouse.address, lighthouse.port), CALL_TIMEOUT_S).close()
        return coordination().LighthouseClient(
            lighthouse.url, connect_timeout=timedelta(seconds=CALL_TIMEOUT_S)
        )

    def _beat(self) -> None:
        client: Any = None
        connected = -1
        while not self._over.is_set():
            place = self._place
            try:
                if client is None or connected != place:
                    client, connected = self._connect(place), place
                client.heartbeat(self._replica, timeout=timedelta(seconds=CALL_TIMEOUT_S))
                self._hear(place)
                self._counted.set()
            except (OSError, RuntimeError):
                client = None
                self._judge(place)
            self._over.wait(BEAT_S)

    def _hear(self, place: int) -> None:
        with self._lock:
            if place == self._place:
                self._answered_at = time.monotonic()
                self._heard_at = max(self._heard_at, self._answered_at)
                self._passed_over.discard(self._lighthouses[place % len(self._lighthouses)])

    def _judge(self, place: int) -> None:
        """After a failed call: a port that refuses is an answer, silence is one after SILENT_S."""
        lighthouse = self._lighthouses[place % len(self._lighthouses)]
        try:
            socket.create_connection((lighthouse.address, lighthouse.port), CALL_TIMEOUT_S).close()
        except ConnectionRefusedError:
            why = "nobody listens there"
        except OSError:
            why = f"no answer for {SILENT_S:g} s"
            if time.monotonic() - self._heard_at < SILENT_S:
                return
        else:
            if time.monotonic() - self._heard_at < SILENT_S:
                return
            why = f"no answer for {SILENT_S:g} s"
        if place == self._place and lighthouse not in self._passed_over:
            self._passed_over.add(lighthouse)
            self._say(f"the lighthouse on {lighthouse.host} is passed over: {why}")
        self.move_on(place)
