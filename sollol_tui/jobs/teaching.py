"""How a teacher's scores come to its students: from its hosts here, where they stay for later jobs,
and on to every worker, over SSH. Computes nothing, and decides nothing of the students' run."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from sollol_tui.hosts.shards import KEY, list_shards
from sollol_tui.hosts.ssh import connect
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.score_cache import ScoreCache, shard_name
from sollol_tui.jobs.scoring import LOOK_S, Scoring, until
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.jobs.worker import RECONNECT_S, Worker
from sollol_tui.model.errors import HostError, InputError
from sollol_tui.model.events import Event
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.teacher import Path

log = logging.getLogger("sollol.supervisor")
_MOST_SHARDS: Final = 1_000_000
_LAST_SCORES_S: Final = 10.0


class Teaching:
    """Of one generation of students. `launching` is held while an agent is started."""

    def __init__(
        self,
        store: Store,
        crew: Crew,
        spec: JobSpec,
        secrets: Mapping[str, str],
        launching: asyncio.Lock,
    ) -> None:
        self._store, self._crew, self._spec = store, crew, spec
        self._secrets, self._launching = secrets, launching
        self._suppliers: dict[str, asyncio.Task[None]] = {}
        self._cache: ScoreCache

    async def attend(self) -> None:
        """Goes on until it is cancelled. Raises RunFailedError when there will be no scores."""
        teacher = self._crew.plan.teacher
        if teacher is None or teacher.lesson.path is not Path.SCORES:
            await asyncio.Event().wait()
            return
        cache = self._cache = await self._learn_cache()
        scoring = Scoring(
            self._store, self._crew, self._spec, self._secrets, self._launching, cache
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(scoring.attend())
            while True:
                self._supply(group)
                await asyncio.sleep(LOOK_S)

    async def see_out(self) -> None:
        """Waits for scores that are not here yet though students have learnt from them: those on a
        teacher's own host have them first, and later jobs look for them here. Not for long, because
        what does not come is only computed again."""
        progress = self._crew.progress
        if not progress.scores:
            return
        host, said = next(iter(progress.scores.items()))
        cache, rows = self._cache_of(host, said), said.count("shard_rows") or 0
        learnt = min(progress.samples_done // rows, cache.shards) if rows else 0
        names = {shard_name(number) for number in range(learnt)}
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SCORES_S):
                await until(lambda: names <= {*cache.names()})

    async def _learn_cache(self) -> ScoreCache:
        """What the scores are called follows from the students' tokens: the first one says it."""
        said = self._crew.progress.scores
        await until(lambda: bool(said))
        return self._cache_of(*next(iter(said.items())))

    def _cache_of(self, host: str, event: Event) -> ScoreCache:
        key, shards = event.text("key"), event.count("shards") or 0
        if not KEY.fullmatch(key) or not 0 < shards <= _MOST_SHARDS:
            raise RunFailedError(Failure(host=host, reason="says nonsense of its teacher's scores"))
        return ScoreCache.of(self._store.home, key, shards)

    def _supply(self, group: asyncio.TaskGroup) -> None:
        """Every worker that has said what it needs has one who brings it."""
        there = {worker.host.name: worker for worker in self._crew.workers}
        for host in [*self._suppliers]:
            if host not in there or self._suppliers[host].done():
                self._suppliers.pop(host).cancel()
        for host, event in self._crew.progress.scores.items():
            if host in there and host not in self._suppliers:
                if event.text("key") != self._cache.key:
                    reason = "has other tokens than the first worker: their data differ"
                    raise RunFailedError(Failure(host=host, reason=reason))
                self._suppliers[host] = group.create_task(self._bring(there[host]))

    async def _bring(self, worker: Worker) -> None:
        """Brings shards to one worker, in the order in which its ranks need them, for ever."""
        folder = self._cache.folder_in(worker.workdir)
        failures = 0
        while True:
            try:
                async with connect(worker.host, [self._store.home.known_hosts]) as connection:
                    there = await list_shards(connection, folder)
                    while True:
                        failures = 0
                        there -= await self._damaged_on(worker.host.name)
                        name = next((n for n in self._cache.names() if n not in there), "")
                        if not name:
                            await asyncio.sleep(LOOK_S)
                            continue
                        await self._cache.send(connection, worker.workdir, name)
                        there.add(name)
            except (HostError, InputError) as error:
                log.warning("scores for %s: %s", worker.host.name, error)
                await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
                failures += 1

    async def _damaged_on(self, host: str) -> set[str]:
        """The shards that a worker has thrown away. What was bad there may be bad here: then it is
        scored again."""
        found = {name for where, name in self._crew.progress.damaged if where == host}
        for name in found & set(self._cache.names()):
            await self._cache.drop_if_damaged(name)
        self._crew.progress.damaged -= {(host, name) for name in found}
        return found
