"""Looks after one job from submit to end. It owns the job's state; the truth of the run lies on the
workers. Its process, and that there is only one, stand in supervise.py.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain, repeat
from typing import Final, Literal, TypeVar

from sollol_tui.jobs.attended import Attended, job_secrets
from sollol_tui.jobs.crew import REQUEST_POLL_S
from sollol_tui.jobs.ending import end, finish, pause
from sollol_tui.jobs.failures import failure_of, first_of, is_ours
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.membership import Membership
from sollol_tui.jobs.preparation import prepare, recover
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.queue import Turn
from sollol_tui.jobs.recovery import told, who_is_lost
from sollol_tui.jobs.regroup import STOP_GRACE_S, leave_alone, lose
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.teaching import Teaching
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.jobs.worker import RECONNECT_S
from sollol_tui.model.errors import HostError, StateError
from sollol_tui.model.states import JobState

log = logging.getLogger("sollol.supervisor")
PORT_TRIES: Final = 2  # of other ports, after the first
PORT_TAKEN: Final = re.compile(r"main port \d+ is in use|[Aa]ddress already in use|EADDRINUSE")
T = TypeVar("T")
Wish = Literal["go on", "pause", "cancel", "kill"]  # the later, the graver


class Supervisor:
    def __init__(self, home: Home, store: Store, job: str) -> None:
        self.case = Attended(home, store, job)
        self._ports_lost = 0

    async def run(self) -> None:
        """Brings the job to where it needs no supervisor, whatever state it is found in."""
        wish: Wish = "go on"
        if self.case.state in (JobState.PAUSING, JobState.STOPPING):
            wish = "pause" if self.case.state is JobState.PAUSING else "cancel"
        while True:
            work = asyncio.create_task(self._fulfil(wish))
            asked = asyncio.create_task(self._asked_for_more_than(wish))
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                asked.cancel()
                if work.exception() is not None or (next_wish := work.result()) is None:
                    break
                wish = next_wish
                continue
            async with self.case.launching:
                work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            wish = asked.result()
        try:
            await work
        except Exception as error:
            failure = failure_of(error)
            log.exception("%s", failure.reason)
            if self.case.state.is_terminal:
                return
            self.case.store.note_traceback(self.case.job, failure.traceback)
            where = f"{failure.host}: " if failure.host else ""
            reason = f"{where}{failure.reason}"
            await self._patiently(lambda: end(self.case, JobState.FAILED, "kill", reason))

    async def _fulfil(self, wish: Wish) -> Wish | None:
        """Returns what the job itself wishes then, if anything."""
        match wish:
            case "go on":
                return await self._patiently(self._advance, lambda: self.case.is_launched)
            case "pause":
                is_paused = await self._patiently(lambda: pause(self.case))
                return None if is_paused else "go on"
            case "cancel":
                await self._patiently(lambda: end(self.case, JobState.CANCELLED, "stop", ""))
            case "kill":
                await self._patiently(lambda: end(self.case, JobState.CANCELLED, "kill", ""))
        return None

    async def _asked_for_more_than(self, wish: Wish) -> Wish:
        """Waits for a request that is graver than what is done now. A cancel hears of `kill` by
        itself, and a run that has come to its end is not paused."""
        graver: tuple[Wish, ...] = ("kill", "cancel", "pause") if wish == "go on" else ()
        if wish == "pause":
            graver = ("kill", "cancel")
        while True:
            with suppress(StateError):  # it may be busy; the next look is soon
                requests = self.case.store.open_requests(self.case.job)
                found: Wish | None = next((kind for kind in graver if kind in requests), None)
                if found == "pause" and self.case.state is JobState.FINISHING:
                    found = None
                if found:
                    return found
            await asyncio.sleep(REQUEST_POLL_S)

    async def _patiently(
        self, act: Callable[[], Awaitable[T]], is_worth_it: Callable[[], bool] = lambda: True
    ) -> T:
        """What goes wrong on this machine alone, a full disk or a busy state, is no reason to end a
        run that goes on elsewhere: it is tried again until it works."""
        for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
            try:
                return await act()
            except Exception as error:
                if not is_ours(error) or not is_worth_it():
                    raise
                log.exception("trying again in %g s", pause_s)
                with suppress(StateError):
                    self.case.stage(f"this machine: {failure_of(error).reason}; trying again")
                await asyncio.sleep(pause_s)
                before = self.case.crew
                self.case.meet_crew()
                self.case.crew.give_up_as(before)
        raise AssertionError("unreachable")

    async def _advance(self) -> Wish | None:
        """From the state the job is found in to done, or to what is wished then. Every phase may be
        repeated."""
        while True:
            try:
                match self.case.state:
                    case JobState.QUEUED:
                        await Turn(self.case.store, self.case.job).wait()
                        self.case.meet_crew()
                    case JobState.PLANNING:
                        self.case.move(JobState.PROVISIONING)
                    case JobState.PROVISIONING:
                        await prepare(self.case)
                    case JobState.STARTING:
                        await self._launch()
                        await self._follow()
                    case JobState.RUNNING:
                        await self._follow()
                    case JobState.RECOVERING:
                        await recover(self.case)
                    case JobState.FINISHING:
                        await finish(self.case)
                    case _:
                        return None  # it is over, or was paused or cancelled while it waited
            except Exception as error:
                failure = failure_of(error)
                if self._lost_its_port(failure):
                    await self._launch_elsewhere(failure)
                elif self.case.crew.progress.full and self.case.is_launched:
                    return "pause"
                elif lost := self._lost_workers(error):
                    if self.case.spec.on_worker_loss == "fail":
                        raise
                    self._note_lost(lost)
                    if self.case.spec.on_worker_loss == "pause" or self._is_sent_away:
                        return "pause"
                    self.case.move(JobState.RECOVERING, told(lost))
                else:
                    raise

    def _lost_its_port(self, failure: Failure) -> bool:
        """Whether somebody took the main port between our look at it and torch's own."""
        was_taken = PORT_TAKEN.search(failure.reason) is not None
        return was_taken and self.case.state is JobState.STARTING and self._ports_lost < PORT_TRIES

    async def _launch_elsewhere(self, failure: Failure) -> None:
        self._ports_lost += 1
        log.warning("%s; starting again with another port", failure.reason)
        await self.case.crew.leave("kill", STOP_GRACE_S)
        self.case.crew.prepare_again()
        self._forget_launch()

    def _forget_launch(self) -> None:
        with self.case.store.transaction():
            generation = self.case.store.job(self.case.job).generation
            self.case.store.note_plan(self.case.job, replace(self.case.crew.plan, lit=()))
            self.case.store.note_launch(self.case.job, generation=generation, main_port=None)

    def _lost_workers(self, error: Exception) -> dict[str, str]:
        """The workers whose loss an error tells of, with reasons; none when it tells something
        else, which ends the job."""
        if self.case.state not in (JobState.STARTING, JobState.RUNNING):
            return {}
        progress, has_begun = self.case.crew.progress, self.case.store.step(self.case.job) > 0
        failure, unseen = failure_of(error), self.case.crew.watch.unseen
        if failure in progress.failures:
            return who_is_lost(progress.failures, unseen, has_begun=has_begun)
        is_host = isinstance(first_of(error), HostError)
        return {failure.host: failure.reason} if is_host and has_begun else {}

    @property
    def _is_sent_away(self) -> bool:
        """Whether somebody wants back every host of the job: nobody else could bring one back."""
        hosts = {worker.host.name for worker in self.case.crew.workers}
        return hosts <= self.case.crew.progress.wanted_back

    def _note_lost(self, lost: Mapping[str, str]) -> None:
        planned = {worker.host.name for worker in self.case.crew.workers}
        for host in sorted(lost.keys() & planned):
            self.case.crew.progress.lost.setdefault(host, lost[host])
            is_there = not self.case.crew.watch.unseen.get(host)
            lose(self.case.store, self.case.job, host, lost[host], is_there=is_there)
            if host in self.case.crew.progress.wanted_back and not self._is_sent_away:
                leave_alone(self.case.store, self.case.job, host, lost[host])
        self.case.store.note_traceback(
            self.case.job,
            next((f.traceback for f in self.case.crew.progress.failures if f.traceback), ""),
        )

    async def _launch(self) -> None:
        """Stores what will be launched, then launches it: a repeat is the same launch."""
        record = self.case.store.job(self.case.job)
        port = record.main_port
        if port is None:
            port = await self.case.crew.reserve_port()
            plan = replace(self.case.crew.plan, lit=self.case.crew.plan.lighthouses(port))
            with self.case.store.transaction():
                self.case.store.note_launch(
                    self.case.job, generation=record.generation + 1, main_port=port
                )
                self.case.store.note_plan(self.case.job, plan)
                self.case.store.note_slots(self.case.job, plan)
        self.case.meet_crew()
        self.case.stage("starting the ranks")
        # A start that is cut short may still happen there, after the end has looked for it. So
        # neither a request nor another worker's failure cancels one.
        async with self.case.launching:
            await self.case.crew.launch(self.case.spec, port, job_secrets())

    async def _follow(self) -> None:
        """Follows all workers until every rank has finished, one has failed, or who takes part
        changes so that another generation is needed."""
        watch, progress = self.case.crew.watch, self.case.crew.progress
        async with watch.watching(), self._taught() as teaching:
            if self.case.state is JobState.STARTING:
                await watch.wait_until_ready(self.case.spec.start_timeout)
                self.case.crew.note_training()
                self.case.move(JobState.RUNNING)
                self._ports_lost = 0
            members = Membership(
                self.case.store, self.case.crew, self.case.spec, job_secrets(), self.case.launching
            )
            attending = asyncio.create_task(members.attend())
            ending = asyncio.create_task(watch.wait_for(lambda: progress.is_complete))
            both = {attending, ending}
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)
            if not ending.cancelled():
                ending.result()
            elif not attending.cancelled():
                self.case.arrivals = members.arrivals
                self.case.move(JobState.RECOVERING, attending.result())
                return
            if (problem := progress.weights_problem()) is not None:
                raise RunFailedError(problem)
            await teaching.see_out()
            self.case.move(JobState.FINISHING)

    @asynccontextmanager
    async def _taught(self) -> AsyncIterator[Teaching]:
        """Scores come from the teacher to the workers while the body runs."""
        case = self.case
        teaching = Teaching(case.store, case.crew, case.spec, job_secrets(), case.launching)
        async with asyncio.TaskGroup() as group:
            attending = group.create_task(teaching.attend())
            try:
                yield teaching
            finally:
                async with case.launching:
                    attending.cancel()
