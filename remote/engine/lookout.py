"""A rank's view of the lighthouses: asks one of them who is there, beats so that it is counted, and
moves on to the next when that one falls silent; asks at a sidelight for the short time after a
departure. Knows nothing of steps and weights."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any

from remote.engine.lighthouse import BEAT_S, CALL_TIMEOUT, client_of, coordination, knock
from remote.engine.loading import NOT_BEGUN
from remote.engine.sidelight import Visit
from remote.engine.voice import Voice
from remote.run import Lighthouse

SILENT_S = 5.0  # without an answer: on to the next lighthouse
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
        self._visit: Visit | None = None
        self._asker: tuple[int | Visit, Any] | None = None
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
            post = self._post
            answer: SimpleQueue[Answer | None] = SimpleQueue()
            # Its own thread, which nobody waits for: a call to a host that is gone returns late,
            # and whoever asks has orders to hear meanwhile.
            threading.Thread(
                target=self._call, args=(post, voice, answer), name="ask", daemon=True
            ).start()
            while post == self._post:
                try:
                    outcome = answer.get(timeout=LOOK_S)
                except Empty:
                    meanwhile()
                    continue
                if outcome is not None:
                    self._hear(post)
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

    @property
    def greeted(self) -> str:
        """At whose sidelight we are counted, "" when at nobody's."""
        return self._visit.keeper if self._visit and self._visit.goes_on else ""

    def greet(self, keeper: Voice) -> None:
        """Begins to be counted at a rank's sidelight, beside the lighthouse that is asked."""
        self.come_back()
        visit = Visit(keeper, self._replica)
        self._visit = visit if visit.begin() else None

    def ask_aside(self) -> None:
        """Asks at the sidelight from now on. The usual lighthouse goes on hearing our beats, so
        that nobody there goes on without us."""
        if self._visit:
            self._visit.ask_here()

    def come_back(self) -> None:
        """Asks the usual lighthouse from now on."""
        if self._visit:
            self._visit.end()
            self._visit = None

    @property
    def is_aside(self) -> bool:
        return isinstance(self._post, Visit)

    @property
    def may_come_back(self) -> bool:
        """Whether who had left is no longer counted by the usual lighthouse."""
        return self._visit is not None and self._visit.has_served

    def close(self) -> None:
        self._over.set()
        self.come_back()

    @property
    def _post(self) -> int | Visit:
        """Where we ask: a place in the order of lighthouses, or a sidelight."""
        return self._visit if self._visit and self._visit.is_asked else self._place

    def _call(self, post: int | Visit, voice: Voice, answer: "SimpleQueue[Answer | None]") -> None:
        """Puts what the lighthouse answered, or None once it is judged why it did not."""
        try:
            asker = self._asker  # one that fails late may take it away meanwhile
            if asker is None or asker[0] != post:
                self._asker = asker = (post, client_of(self._lighthouse(post)))
            quorum = asker[1].quorum(
                self._replica,
                timeout=timedelta(seconds=ASK_TIMEOUT_S),
                step=voice.step + 1 if voice.holds else NOT_BEGUN,
                world_size=1,
                data=voice.data(),
            )
        except (OSError, RuntimeError):  # TimeoutError is an OSError
            self._asker = None
            self._over.wait(PAUSE_S)
            if isinstance(post, Visit):
                post.end()
            else:
                self._judge(post)
            answer.put(None)
            return
        heard = (Voice.of_data(participant.data) for participant in quorum.participants)
        answer.put(
            Answer(
                quorum_id=quorum.quorum_id,
                voices=tuple(voice for voice in heard if voice is not None),
            )
        )

    def _lighthouse(self, post: int | Visit) -> Lighthouse:
        if isinstance(post, Visit):
            return post.lighthouse
        return self._lighthouses[post % len(self._lighthouses)]

    def _beat(self) -> None:
        client: Any = None
        connected = -1
        while not self._over.is_set():
            place = self._place
            try:
                if client is None or connected != place:
                    client, connected = client_of(self._lighthouse(place)), place
                client.heartbeat(self._replica, timeout=CALL_TIMEOUT)
                self._hear(place)
                self._counted.set()
            except (OSError, RuntimeError):
                client = None
                self._judge(place)
            self._over.wait(BEAT_S)

    def _hear(self, post: int | Visit) -> None:
        with self._lock:
            if isinstance(post, Visit):
                self._answered_at = time.monotonic()
            elif post == self._place:
                self._answered_at = time.monotonic()
                self._heard_at = max(self._heard_at, self._answered_at)
                self._passed_over.discard(self._lighthouse(post))

    def _judge(self, place: int) -> None:
        """After a failed call: a port that refuses is an answer, silence is one after SILENT_S."""
        lighthouse = self._lighthouse(place)
        try:
            knock(lighthouse)
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
