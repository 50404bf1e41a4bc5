"""A client that shows a recorded job as it was, only faster, to whatever shows clients. Plays into
a state folder of its own; asks no host, and refuses all that acts.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from sollol_tui.client import SOLLOLClient
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.replay import Player
from sollol_tui.jobs.view import read_snapshot
from sollol_tui.model.errors import JobError
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.snapshot import Snapshot

_LONGEST_SILENCE_S: Final = 3.0  # in which nothing happens, on the watcher's clock


class Pace:
    """What time it is in the recording: `speed` seconds of it pass in each of the watcher's."""

    def __init__(self, at: float, speed: float, clock: Callable[[], float]) -> None:
        self.speed = speed
        self._clock = clock
        self._from, self._since = at, clock()

    def now(self) -> float:
        return self._from + (self._clock() - self._since) * self.speed

    def skip_to(self, moment: float) -> None:
        self._from, self._since = moment, self._clock()


class ReplayClient(SOLLOLClient):
    """Shows `job` of the state `source`, from `begin_s` after it was made."""

    def __init__(
        self,
        source: Home,
        job: str,
        folder: Path,
        *,
        speed: float = 20.0,
        begin_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`folder` is an empty one in which the replay may write; its owner removes it."""
        super().__init__(home=folder)
        # What is written here can be made again.
        self._store.connection.execute("PRAGMA synchronous = OFF")
        self._player = Player(source, job, self._store)
        self._pace = Pace(self._player.begins + begin_s, speed, clock)

    def close(self) -> None:
        with self._lock:
            self._player.close()
            super().close()

    def revive(self) -> list[str]:
        """None: nothing of a recorded job runs."""
        return []

    def inventory(self) -> Inventory:
        return self._player.inventory

    @property
    def inventory_problem(self) -> str:
        return ""

    def state_version(self) -> int:
        with self._lock:
            self._go_on()
            return super().state_version()

    def snapshot(self) -> Snapshot:
        """What was seen then; the name of the inventory says when that was."""
        with self._lock:
            self._go_on()
            shown = read_snapshot(self._store, self.inventory())
            return replace(shown, at=self._player.reached, inventory=self._title())

    async def probe_hosts(
        self, patterns: Sequence[str] = (), *, timeout_s: float | None = None
    ) -> None:
        """Nobody: the figures of hosts are recorded ones."""

    @property
    def is_over(self) -> bool:
        return self._player.next_due is None and self._player.reached >= self._player.ends

    def _go_on(self) -> None:
        """Plays what is due. A long silence is cut short."""
        now, due = self._pace.now(), self._player.next_due
        if due is not None and due - now > _LONGEST_SILENCE_S * self._pace.speed:
            now = due - _LONGEST_SILENCE_S * self._pace.speed
            self._pace.skip_to(now)
        self._player.play(now)

    def _title(self) -> str:
        at = datetime.fromtimestamp(self._player.reached).astimezone()
        what = "over" if self.is_over else f"{self._pace.speed:g}x"
        return f"replay {at:%m-%d %H:%M:%S}, {what}"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise JobError("this is a replay of what was", remedy="leave it with q to act on real jobs")

    cancel_job = pause_job = resume_job = join_job = leave_job = _refuse
    start_job = prune_jobs = prune_scores = fetch = write_inventory = _refuse

    async def _refuse_later(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    prepare_job = examine_hosts = provision_host = preview_host = prune_host = _refuse_later
