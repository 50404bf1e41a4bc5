"""Hears what the workers of a job say: their files are copied and read as they grow, and what they
add up to is waited for. Decides nothing; a run that cannot go on is a RunFailedError.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from sollol_tui.jobs.events import note
from sollol_tui.jobs.ingest import Ingest
from sollol_tui.jobs.log_times import LogTimes
from sollol_tui.jobs.progress import Failure, Progress
from sollol_tui.jobs.room import HERE, shortage
from sollol_tui.jobs.sight import Sight
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.inventory import ConnectionKind

log = logging.getLogger("sollol.supervisor")
LAST_WORDS_S: Final = 5.0  # how long the last events of a run are waited for
STORE_EVERY_S: Final = 0.5  # each time is a write that waits for the disk
_LOOK_S: Final = 0.25
_BLIND: Final = (
    "none of its workers is in sight: this machine may have lost its network, or all of them their "
    "power; the job goes on by itself as soon as one is seen"
)


class RunFailedError(Exception):
    """The run cannot go on; the job fails once its workers are clean."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Watch:
    """One generation of a job, as far as it was heard. `inventory` is the file under which the
    readings of its hosts are kept."""

    def __init__(
        self, store: Store, job: str, inventory: str, progress: Progress, workers: Sequence[Worker]
    ) -> None:
        self.progress = progress
        self._store = store
        self._job = job
        self._workers = workers
        self._ingest = Ingest(store, job, inventory, progress)
        self._log_times = LogTimes()
        self._news = asyncio.Event()
        self._over: set[str] = set()
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._told_stuck: dict[str, str] = {}
        self._stopped: dict[str, int] = {}  # agents that a signal has stopped, by host
        self.unseen: dict[str, str] = {}
        """Why a host is out of sight, "" for one that is seen."""
        # Who was out of sight when another watch ended: that it is seen again is news.
        self._left_unseen = {
            w.host: w.reason or "it was out of sight" for w in store.workers(job) if w.unseen_since
        }
        self._is_blind = self._left_unseen.keys() >= {worker.host.name for worker in workers}
        self.sight = Sight(is_apart=progress.plan.apart)
        self._steps_judged = progress.steps_heard

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Copies of the workers' files grow, and are read, while the body runs."""
        self._over.clear()
        async with asyncio.TaskGroup() as self._group:
            for worker in self._workers:
                self._begin(worker)
            storing = self._group.create_task(self._store_news())
            try:
                yield
            finally:
                self._ingest.store()
                for watcher in (storing, *self._watchers.values()):
                    watcher.cancel()
                self._watchers.clear()
                self._group = None

    def follow(self, workers: Sequence[Worker]) -> None:
        """From now on these are the workers: who came is watched, who has gone is not any more."""
        self._workers = workers
        names = {worker.host.name for worker in workers}
        for host in self._watchers.keys() - names:
            self._watchers.pop(host).cancel()
            self._over.discard(host)
            self.unseen.pop(host, None)
        if self._group is not None:
            for worker in workers:
                if worker.host.name not in self._watchers:
                    self._begin(worker)

    def _begin(self, worker: Worker) -> None:
        assert self._group is not None
        copies = worker.copies
        copies.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(copies.glob("events.*")):
            self._on_data(worker.host.name, path.name, path)
        watcher = worker.watch(self._on_data, self._on_seen, self._on_over, self._on_stopped)
        self._watchers[worker.host.name] = self._group.create_task(watcher)

    async def _store_news(self) -> None:
        while True:
            if reason := shortage(self._store.home):
                self.progress.full[HERE] = reason
                self._news.set()
            self._ingest.store()
            await asyncio.sleep(STORE_EVERY_S)

    def look_around(self) -> None:
        """Judges anew for how long which host has been out of sight; to be called again and again,
        because what lies between two looks may have been slept through."""
        heard, self._steps_judged = self._steps_judged, self.progress.steps_heard
        stepped = heard != self._steps_judged
        self.sight.witnesses = frozenset(
            worker.host.name
            for worker in self._workers
            if worker.host.connection is not ConnectionKind.LOCAL
        )
        self.sight.look(
            asyncio.get_running_loop().time(),
            {host for host, reason in self.unseen.items() if reason},
            stepped=stepped,
            all_step=stepped and self.progress.all_step,
        )

    def is_left(self, host: str) -> bool:
        """Whether a host that is seen has no agent of this run any more."""
        return host in self._over

    def is_alive(self, host: str) -> bool:
        """Whether a host is seen, and its agent too."""
        return self.unseen.get(host) == "" and host not in self._over

    def is_over(self) -> bool:
        """Whether no agent lives and all that they and their ranks wrote is here."""
        return len(self._over) == len(self._workers)

    async def hear_last_words(self, limit_s: float) -> None:
        """Waits until all that the workers wrote is here, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not self.is_over():
                    self._news.clear()
                    await self._news.wait()

    async def wait_until_ready(self, timeout_s: float) -> None:
        """Waits for every rank to be ready. To be slow is no fault; to be silent is."""
        async with asyncio.TaskGroup() as group:
            listener = group.create_task(self._fail_on_silence(timeout_s))
            await self.wait_for(lambda: self.progress.all_ready)
            listener.cancel()

    async def _fail_on_silence(self, timeout_s: float) -> None:
        """Raises RunFailedError when a rank that is not ready says nothing for `timeout_s`. A host
        that is out of sight is not held to be silent."""
        clock = asyncio.get_running_loop().time
        heard: dict[int, tuple[int, float]] = {}
        while True:
            silent = []
            for slot in sorted(self.progress.slots - self.progress.ready.keys()):
                host, said = self.progress.host_of(slot) or "", self.progress.said[slot]
                known, at = heard.get(slot, (-1, 0.0))
                if said != known or self.unseen.get(host):
                    heard[slot] = (said, clock())
                elif clock() - at > timeout_s:
                    silent.append((host, slot))
            for host in dict.fromkeys(host for host, _ in silent):
                ranks = ", ".join(str(slot) for at, slot in silent if at == host)
                reason = (
                    f"rank {ranks} said nothing for {timeout_s:g} s (start_timeout) and was not "
                    f"ready; see: sollol logs {self._job}"
                )
                self.progress.failures.append(Failure(host=host, reason=reason))
            if self.progress.failure is not None and silent:
                raise RunFailedError(self.progress.failure)
            await asyncio.sleep(_LOOK_S)

    async def wait_for(self, met: Callable[[], bool]) -> None:
        """Waits until the progress meets a condition. Raises RunFailedError when the run fails
        first."""
        while True:
            self._news.clear()
            if self.progress.full:
                host, reason = next(iter(self.progress.full.items()))
                raise RunFailedError(Failure(host=host, reason=reason))
            if self.progress.failure is not None:
                await self._hear_the_others()
                raise RunFailedError(self.progress.failure)
            if (problem := self.progress.world_problem()) is not None:
                raise RunFailedError(problem)
            if met():
                return
            if self.is_over():
                stopped = Failure(
                    host="", reason="its ranks were told to stop, but not by sollol here"
                )
                raise RunFailedError(stopped)
            await self._news.wait()

    async def _hear_the_others(self) -> None:
        """Gives the other workers a moment to say what went wrong: the first failure heard may be
        that of a rank that merely lost its peer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while not (self.is_over() or self.progress.cause_is_known):
                    self._news.clear()
                    await self._news.wait()

    def _on_data(self, host: str, file: str, path: Path) -> None:
        self._log_times.note(path)
        self._ingest.read(host, file, path)
        self._note_stuck(host)
        self._news.set()

    def _note_stuck(self, host: str) -> None:
        """Shows beside a worker what stands still there, as long as that is so: its agent, or ranks
        that take no steps."""
        progress = self.progress
        still = [w for slot, w in progress.stuck.items() if progress.host_of(slot) == host]
        if host in self._stopped:
            still.insert(0, _told_stopped(self._stopped[host]))
        told = "; ".join(still)
        if told != self._told_stuck.get(host, ""):
            self._told_stuck[host] = told
            log.warning("%s: %s", host, told or "all that it runs goes on again")
            self._store.note_worker(self._job, host, reason=told)

    def _on_over(self, host: str) -> None:
        if host not in self._over:
            self._over.add(host)
            self.progress.lose_agent(host)
            self._news.set()

    def _on_stopped(self, host: str, pid: int | None) -> None:
        if pid == self._stopped.get(host):
            return
        if pid is None:
            del self._stopped[host]
        else:
            self._stopped[host] = pid
            note(self._store, self._job, "notice", host=host, message=_told_stopped(pid))
        self._note_stuck(host)

    def await_again(self, host: str) -> None:
        """An agent of a lost worker is launched anew in this generation."""
        self.progress.await_again(host)
        self._over.discard(host)

    def _on_seen(self, host: str, reason: str) -> None:
        """Notes when a worker goes out of sight and comes back; says nothing about its run."""
        known = self.unseen.get(host, self._left_unseen.get(host, ""))
        self.unseen[host] = reason
        if reason == known:
            return
        if bool(reason) != bool(known):
            note(self._store, self._job, "sight", host=host, reason=reason)
        log.warning("%s: %s", host, reason or "seen again")
        since = time.time() if reason else None
        self._store.note_worker(self._job, host, unseen_since=since, reason=reason)
        if bool(reason) != bool(known) and len(self._workers) > 1:
            self._tell_blindness()

    def _tell_blindness(self) -> None:
        """Where all are out of sight none is judged: what is waited for stands beside the job."""
        seen = [w for w in self._workers if not self.unseen.get(w.host.name)]
        if self._is_blind != (not seen):
            self._is_blind = not seen
            self._store.note_stage(self._job, _BLIND if self._is_blind else "")


def _told_stopped(pid: int) -> str:
    return (
        f"a signal has stopped its agent: the ranks train, and nobody looks after them; there: "
        f"kill -CONT {pid}"
    )
