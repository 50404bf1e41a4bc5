"""How a teacher's scores come to its students: from its hosts here, where they stay for later jobs,
and on to every worker, over SSH. Computes nothing, and decides nothing of the students' run."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from itertools import repeat
from typing import Final

from sollol_tui.hosts.shards import KEY, MOST_BYTES, NAME, SHA256, fetch_file, list_shards
from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.hosts.transfer import send_file
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.events import note
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.score_cache import ScoreCache
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.teacher_run import CRASHES, TeacherRun
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.jobs.worker import RECONNECT_S, Worker
from sollol_tui.model.errors import HostError, InputError, UnreachableError
from sollol_tui.model.events import Event
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.teacher import Path

log = logging.getLogger("sollol.supervisor")
_LOOK_S: Final = 0.25
_MOST_SHARDS: Final = 1_000_000


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
        key = await self._learn_key()
        async with asyncio.TaskGroup() as group:
            for worker in self._crew.teachers:
                group.create_task(self._score(worker))
            while True:
                self._supply(group, key)
                await asyncio.sleep(_LOOK_S)

    async def _learn_key(self) -> str:
        """What the scores are called follows from the students' tokens: the first one says it."""
        said = self._crew.progress.scores
        await _until(lambda: bool(said))
        host, event = next(iter(said.items()))
        key, shards = event.text("key"), event.count("shards") or 0
        if not KEY.fullmatch(key) or not 0 < shards <= _MOST_SHARDS:
            raise RunFailedError(Failure(host=host, reason="says nonsense of its teacher's scores"))
        self._cache = ScoreCache.of(self._store.home, key, shards)
        return key

    # from the teacher

    async def _score(self, worker: Worker) -> None:
        """Has one host score its part, as often as it takes."""
        plan = self._crew.plan
        assert plan.teacher is not None
        number = [host.host for host in plan.teacher.hosts].index(worker.host.name)
        parts = len(plan.teacher.hosts)
        news: asyncio.Queue[Event] = asyncio.Queue()
        run = TeacherRun(
            store=self._store,
            worker=worker,
            plan=plan,
            spec=self._spec,
            inventory=self._crew.inventory,
            secrets=self._secrets,
            launching=self._launching,
            hear=lambda event: self._hear(run, news, event),
        )
        crashes, lacked = 0, -1
        while True:
            if not self._cache.lacking(number, parts):
                here = "" if run.has_begun else "an earlier run's scores are here, whole"
                run.note(state="done", reason=here, tokens_per_s=None, eta_s=None)
                await _until(lambda: bool(self._cache.lacking(number, parts)))
            lacking = len(self._cache.lacking(number, parts))
            crashes, lacked = crashes if lacking == lacked else 0, lacking
            try:
                await self._score_once(run, news)
            except HostError as error:
                crashes += not isinstance(error, UnreachableError)
                if crashes == CRASHES:
                    reason = f"{error.message}, {crashes} times without a shard in between"
                    raise RunFailedError(Failure(host=error.host, reason=reason)) from error
                told = f"{error}; scoring starts again"
                note(self._store, self._crew.job, "notice", host=worker.host.name, message=told)
                run.note(state="lost", reason=str(error))
                log.warning("%s", told)
                await asyncio.sleep(RECONNECT_S[min(crashes, len(RECONNECT_S) - 1)])

    async def _score_once(self, run: TeacherRun, news: "asyncio.Queue[Event]") -> None:
        await run.prepare()
        await self._give_what_is_here(run)
        await run.launch()
        fetching = asyncio.create_task(self._fetch(run, news))
        following = asyncio.create_task(self._follow(run, news))
        try:
            await asyncio.wait({fetching, following}, return_when=asyncio.FIRST_COMPLETED)
            (fetching if fetching.done() else following).result()
        finally:
            for task in (fetching, following):
                task.cancel()
            await asyncio.gather(fetching, following, return_exceptions=True)
            if run.over.is_set():
                run.give_up_launch()  # what lacks still is another run's

    async def _follow(self, run: TeacherRun, news: "asyncio.Queue[Event]") -> None:
        """Returns once it has scored its part and all of that was fetched."""
        await run.follow()
        await news.join()

    async def _give_what_is_here(self, run: TeacherRun) -> None:
        """What was scored elsewhere, or before the host was wiped, is not scored again."""
        worker = run.worker
        folder = f"{worker.workdir}/scores/{self._cache.folder.name}"

        async def give(connection: HostConnection) -> None:
            there = await list_shards(connection, folder)
            for name in self._cache.names():
                if name not in there:
                    await self._send(connection, folder, name)

        await worker.over_ssh(give)

    def _hear(self, run: TeacherRun, news: "asyncio.Queue[Event]", event: Event) -> None:
        if event.text("key") not in ("", self._cache.folder.name):
            return
        match event.kind:
            case "scoring":
                run.note(state="scoring", total=event.count("part_tokens") or 0, hits=0, done=0)
            case "shard":
                if event.data.get("present") is True:
                    run.count_hits(event.count("tokens") or 0)
                news.put_nowait(event)
            case "progress":
                run.note(
                    done=event.count("tokens_done") or 0,
                    tokens_per_s=event.number("tokens_per_s"),
                    eta_s=event.number("eta_s"),
                )

    async def _fetch(self, run: TeacherRun, news: "asyncio.Queue[Event]") -> None:
        """Brings each shard here as soon as it is told."""
        await run.worker.over_ssh(partial(self._fetch_all, run.worker.workdir, news))

    async def _fetch_all(
        self, workdir: str, news: "asyncio.Queue[Event]", connection: HostConnection
    ) -> None:
        while True:
            event = await news.get()
            try:
                await self._fetch_one(workdir, event, connection)
            except UnreachableError:  # over another connection, then
                news.put_nowait(event)
                raise
            finally:
                news.task_done()

    async def _fetch_one(self, workdir: str, event: Event, connection: HostConnection) -> None:
        name, sha256 = event.text("file"), event.text("sha256")
        size = event.count("size") or 0
        is_said = NAME.fullmatch(name) and SHA256.fullmatch(sha256) and 0 < size <= MOST_BYTES
        if not is_said or self._cache.path(name).exists():
            return
        self._cache.note_sum(name, sha256)
        folder = f"{workdir}/scores/{self._cache.folder.name}"
        await fetch_file(connection, folder, name, size, sha256, self._cache.path(name))

    # to the students

    def _supply(self, group: asyncio.TaskGroup, key: str) -> None:
        """Every worker that has said what it needs has one who brings it."""
        there = {worker.host.name: worker for worker in self._crew.workers}
        for host in [*self._suppliers]:
            if host not in there or self._suppliers[host].done():
                self._suppliers.pop(host).cancel()
        for host, event in self._crew.progress.scores.items():
            if host in there and host not in self._suppliers:
                if event.text("key") != key:
                    reason = "has other tokens than the first worker: their data differ"
                    raise RunFailedError(Failure(host=host, reason=reason))
                self._suppliers[host] = group.create_task(self._bring(there[host]))

    async def _bring(self, worker: Worker) -> None:
        """Brings shards to one worker, in the order in which its ranks need them, for ever."""
        folder = f"{worker.workdir}/scores/{self._cache.folder.name}"
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
                            await asyncio.sleep(_LOOK_S)
                            continue
                        await self._send(connection, folder, name)
                        there.add(name)
            except (HostError, InputError) as error:
                log.warning("scores for %s: %s", worker.host.name, error)
                await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
                failures += 1

    async def _send(self, connection: HostConnection, folder: str, name: str) -> None:
        try:
            await send_file(
                connection,
                self._cache.path(name),
                f"{folder}/{name}",
                self._cache.sha256(name),
            )
        except InputError:
            await self._cache.drop_if_damaged(name)
            raise

    async def _damaged_on(self, host: str) -> set[str]:
        """The shards that a worker has thrown away. What was bad there may be bad here: then it is
        scored again."""
        found = {name for where, name in self._crew.progress.damaged if where == host}
        for name in found & set(self._cache.names()):
            await self._cache.drop_if_damaged(name)
        self._crew.progress.damaged -= {(host, name) for name in found}
        return found


async def _until(met: Callable[[], bool]) -> None:
    """Folders and what other hosts say have no event to wait for."""
    for _ in repeat(None):
        if met():
            return
        await asyncio.sleep(_LOOK_S)
