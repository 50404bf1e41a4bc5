"""Has a job's teacher score what this machine lacks: each part of the data on one of its hosts, and
on another of them where that one is lost. What is scored comes here; nothing goes to students."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Final

from sollol_tui.hosts.shards import MOST_BYTES, NAME, SHA256, fetch_file, list_shards
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.events import note
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.score_cache import ScoreCache
from sollol_tui.jobs.sight import LOST_AFTER_S, Spells
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.teacher_run import CRASHES, TeacherRun
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.jobs.worker import RECONNECT_S
from sollol_tui.model.errors import HostError, InputError, UnreachableError
from sollol_tui.model.events import Event
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.teacher import PlannedTeacher

log = logging.getLogger("sollol.supervisor")
LOOK_S: Final = 0.25


class Scoring:
    """Of one generation of students. A host is lost to it when it was out of sight for long, or
    when nothing comes of it however often it is started."""

    def __init__(
        self,
        store: Store,
        crew: Crew,
        spec: JobSpec,
        secrets: Mapping[str, str],
        launching: asyncio.Lock,
        cache: ScoreCache,
    ) -> None:
        self._store, self._crew, self._cache = store, crew, cache
        self._runs = {
            worker.host.name: TeacherRun(
                store=store,
                worker=worker,
                plan=crew.plan,
                spec=spec,
                inventory=crew.inventory,
                secrets=secrets,
                launching=launching,
                hear=lambda event, host=worker.host.name: self._hear(host, event),  # type: ignore[misc]
            )
            for worker in crew.teachers
        }
        self._holders = list(self._teacher.scorers)  # the host of each part
        self._news: dict[str, asyncio.Queue[Event]] = {host: asyncio.Queue() for host in self._runs}
        self._unseen = Spells()
        self._failures: dict[str, Failure] = {}  # of hosts that are started no more

    @property
    def _teacher(self) -> PlannedTeacher:
        assert self._crew.plan.teacher is not None
        return self._crew.plan.teacher

    async def attend(self) -> None:
        """Goes on until it is cancelled. Raises RunFailedError when there will be no scores."""
        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as group:
            for run in self._runs.values():
                group.create_task(self._serve(run))
            while True:
                self._unseen.look(clock(), [host for host, run in self._runs.items() if run.unseen])
                self._crew.lost_teachers = frozenset(filter(self._is_lost, self._runs))
                await asyncio.sleep(LOOK_S)

    # who scores what

    def _is_lost(self, host: str) -> bool:
        return host in self._failures or self._unseen.lasted_s(host) >= LOST_AFTER_S

    def _part_for(self, host: str) -> int | None:
        """What a host scores next: a part of its own, else one whose host is lost."""
        lacking = self._cache.lacking_parts(len(self._holders))
        own = [part for part in lacking if self._holders[part] == host]
        left = [part for part in lacking if self._is_lost(self._holders[part])]
        return next(iter((*own, *left)), None)

    def _take(self, part: int, host: str) -> bool:
        """Makes a part that of a host; whether it may have it."""
        holder = self._holders[part]
        if holder == host:
            return True
        if not self._is_lost(holder):
            return False  # it came back meanwhile, and goes on itself
        self._holders[part] = host
        plan = self._crew.plan
        teacher = replace(self._teacher, holders=tuple(self._holders))
        self._crew.follow_plan(replace(plan, teacher=teacher))
        self._store.note_plan(self._crew.job, self._crew.plan)
        told = f"it scores what the teacher on {holder} has left"
        note(self._store, self._crew.job, "notice", host=host, message=told)
        log.warning("%s: %s", host, told)
        return True

    # on one host

    async def _serve(self, run: TeacherRun) -> None:
        """One part after the other, as often as it takes."""
        host, crashes = run.worker.host.name, 0
        lacked: list[str] = []
        while True:
            if host not in self._holders:  # another has its part: nothing is scored twice
                await run.silence()
            if (part := self._part_for(host)) is None:
                here = "" if run.has_begun else "an earlier run's scores are here, whole"
                run.note(state="done", reason=here, tokens_per_s=None, eta_s=None)
                await until(lambda: self._part_for(host) is not None)
                continue
            lacking = self._cache.lacking(part, len(self._holders))
            crashes, lacked = crashes if lacking == lacked else 0, lacking
            try:
                await self._score(run, part)
                self._look_for_progress(host, part, lacking)
            except RunFailedError as error:
                self._give_up(run, error.failure)
                return
            except HostError as error:
                run.unseen = isinstance(error, UnreachableError)
                crashes += not run.unseen
                if crashes == CRASHES:
                    reason = f"{error.message}, {crashes} times without a shard in between"
                    self._give_up(run, Failure(host=error.host, reason=reason))
                    return
                told = f"{error}; scoring starts again"
                note(self._store, self._crew.job, "notice", host=host, message=told)
                run.note(state="lost", reason=str(error))
                log.warning("%s", told)
                await asyncio.sleep(RECONNECT_S[min(crashes, len(RECONNECT_S) - 1)])

    def _look_for_progress(self, host: str, part: int, lacked: list[str]) -> None:
        """Raises HostError when a run has finished, and all that lacked before lacks still. What
        was thrown away meanwhile, because it was damaged, is the next one's."""
        if self._holders[part] == host and not self._cache.holds_any(lacked):
            raise HostError(
                host,
                "the teacher's run said that it had finished, but none of the shards that it was "
                f"to bring is here: {len(lacked)} lack",
            )

    def _give_up(self, run: TeacherRun, failure: Failure) -> None:
        """A host scores no more. Raises RunFailedError when it was the last one."""
        host = run.worker.host.name
        self._failures[host] = failure
        if len(self._failures) == len(self._runs):
            raise RunFailedError(failure)
        told = f"{failure.reason}; the teacher's other hosts score what it has left"
        note(self._store, self._crew.job, "notice", host=host, message=told)
        run.note(state="lost", reason=failure.reason, tokens_per_s=None, eta_s=None)
        log.warning("%s: %s", host, told)

    async def _score(self, run: TeacherRun, part: int) -> None:
        """Returns when the part is scored and here, or is another's by now."""
        host = run.worker.host.name
        await run.prepare()
        if not self._take(part, host):
            return
        await self._give_what_is_here(run)
        await run.launch(part, len(self._holders))
        tasks = [
            asyncio.create_task(self._fetch(run)),
            asyncio.create_task(self._follow(run)),
            asyncio.create_task(until(lambda: self._holders[part] != host)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            next(task for task in tasks if task.done()).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if run.over.is_set():
                run.give_up_launch()  # what lacks still is another run's

    async def _follow(self, run: TeacherRun) -> None:
        """Returns once it has scored its part and all of that was fetched."""
        await run.follow()
        await self._news[run.worker.host.name].join()

    async def _give_what_is_here(self, run: TeacherRun) -> None:
        """What was scored elsewhere, or before the host was wiped, is not scored again."""
        await run.worker.over_ssh(partial(self._give, run.worker.workdir))

    async def _give(self, workdir: str, connection: HostConnection) -> None:
        there = await list_shards(connection, self._cache.folder_in(workdir))
        for name in self._cache.names():
            if name not in there:
                with suppress(InputError):  # damaged here: it is removed, and scored again
                    await self._cache.send(connection, workdir, name)

    # what it says

    def _hear(self, host: str, event: Event) -> None:
        if event.text("key") not in ("", self._cache.key):
            return
        run = self._runs[host]
        match event.kind:
            case "scoring":
                run.begin_part(event.count("part") or 0, event.count("part_tokens") or 0)
            case "shard":
                if event.data.get("present") is True:
                    run.count_hits(event.count("tokens") or 0)
                self._news[host].put_nowait(event)
            case "progress":
                run.note_pace(event)
            case "notice":
                run.tell(event)

    async def _fetch(self, run: TeacherRun) -> None:
        """Brings each shard here as soon as it is told."""
        worker, news = run.worker, self._news[run.worker.host.name]
        await worker.over_ssh(partial(self._fetch_all, worker.workdir, news))

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
        folder = self._cache.folder_in(workdir)
        await fetch_file(connection, folder, name, size, sha256, self._cache.path(name))


async def until(met: Callable[[], bool]) -> None:
    """Folders and what other hosts say have no event to wait for."""
    for _ in repeat(None):
        if met():
            return
        await asyncio.sleep(LOOK_S)
