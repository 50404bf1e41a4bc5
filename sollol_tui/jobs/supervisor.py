"""Looks after one job from submit to end. It owns the job's state; the truth of the run lies on the
workers. Its process, and that there is only one, stand in supervise.py.
"""

import asyncio
import logging
import os
import re
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Final, Literal

from sollol_tui.jobs import checkpoints
from sollol_tui.jobs.crew import REQUEST_POLL_S, Crew
from sollol_tui.jobs.fingerprints import difference, harmless_difference
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.membership import Membership
from sollol_tui.jobs.planner import resources, without
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.queue import Turn, selection_of
from sollol_tui.jobs.records import load
from sollol_tui.jobs.recovery import (
    AWAY,
    is_hopeless,
    quarantine_reason,
    told,
    waits_for,
    who_is_lost,
)
from sollol_tui.jobs.regroup import (
    PAUSE_GRACE_S,
    STOP_GRACE_S,
    bring_checkpoint,
    end_generation,
    lose,
    plan_next,
)
from sollol_tui.jobs.requests import resting_place
from sollol_tui.jobs.results import collect
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.watch import LAST_WORDS_S, RunFailedError
from sollol_tui.jobs.worker import RECONNECT_S, Ending, Worker
from sollol_tui.model.errors import (
    HostError,
    NoWorkersError,
    SollolError,
    StateError,
    UnreachableError,
)
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState

log = logging.getLogger("sollol.supervisor")
SAY_EVERY_S: Final = 0.2
PORT_TRIES: Final = 2  # of other ports, after the first
FINISH_LIMIT_S: Final = 30.0  # how long the other workers' last words are waited for
PORT_TAKEN: Final = re.compile(r"main port \d+ is in use|[Aa]ddress already in use|EADDRINUSE")
_SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
Wish = Literal["go on", "pause", "cancel", "kill"]  # the later, the graver


class Supervisor:
    def __init__(self, home: Home, store: Store, job: str) -> None:
        self.home, self.store, self.job = home, store, job
        self._launching = asyncio.Lock()
        self._said_at = 0.0
        self._ports_lost = 0
        self._arrivals: dict[str, Worker] = {}
        self._meet_crew()

    def _meet_crew(self) -> None:
        """The crew as the state has it now."""
        record = self.store.job(self.job)
        self.spec = load(JobSpec, record.spec)
        self.output_dir = Path(record.output_dir)
        self.crew = Crew(self.store, record, self._say)

    @property
    def state(self) -> JobState:
        return self.store.job(self.job).state

    @property
    def _is_launched(self) -> bool:
        return self.store.job(self.job).main_port is not None

    async def run(self) -> None:
        """Brings the job to where it needs no supervisor, whatever state it is found in."""
        wish: Wish = "go on"
        if self.state in (JobState.PAUSING, JobState.STOPPING):
            wish = "pause" if self.state is JobState.PAUSING else "cancel"
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
            async with self._launching:
                work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            wish = asked.result()
        try:
            await work
        except Exception as error:
            failure = failure_of(error)
            log.exception("%s", failure.reason)
            if self.state.is_terminal:
                return
            self.store.note_traceback(self.job, failure.traceback)
            where = f"{failure.host}: " if failure.host else ""
            await self._end(JobState.FAILED, "kill", f"{where}{failure.reason}")

    async def _fulfil(self, wish: Wish) -> Wish | None:
        """Returns what the job itself wishes then, if anything."""
        match wish:
            case "go on":
                return await self._advance_patiently()
            case "pause":
                await self._pause()
            case "cancel":
                await self._end(JobState.CANCELLED, "stop", "")
            case "kill":
                await self._end(JobState.CANCELLED, "kill", "")
        return None

    async def _asked_for_more_than(self, wish: Wish) -> Wish:
        """Waits for a request that is graver than what is done now. A cancel hears of `kill` by
        itself, and a run that has come to its end is not paused."""
        graver: tuple[Wish, ...] = ("kill", "cancel", "pause") if wish == "go on" else ()
        if wish == "pause":
            graver = ("kill", "cancel")
        while True:
            with suppress(StateError):  # it may be busy; the next look is soon
                requests = self.store.open_requests(self.job)
                found: Wish | None = next((kind for kind in graver if kind in requests), None)
                if found == "pause" and self.state is JobState.FINISHING:
                    found = None
                if found:
                    return found
            await asyncio.sleep(REQUEST_POLL_S)

    async def _advance_patiently(self) -> Wish | None:
        """Advances the job. What goes wrong on this machine alone, a full disk or a busy state, is
        no reason to end a run that goes on elsewhere: it is tried again until it works."""
        for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
            try:
                return await self._advance()
            except Exception as error:
                if not _is_ours(error) or not self._is_launched:
                    raise
                log.exception("trying again in %g s", pause_s)
                with suppress(StateError):
                    self._stage(f"this machine: {failure_of(error).reason}; trying again")
                await asyncio.sleep(pause_s)
                self._meet_crew()
        raise AssertionError("unreachable")

    async def _advance(self) -> Wish | None:
        """From the state the job is found in to done, or to what is wished then. Every phase may be
        repeated."""
        while True:
            try:
                match self.state:
                    case JobState.QUEUED:
                        await Turn(self.store, self.job).wait()
                        self._meet_crew()
                    case JobState.PLANNING:
                        self._move(JobState.PROVISIONING)
                    case JobState.PROVISIONING:
                        await self._prepare()
                    case JobState.STARTING:
                        await self._launch()
                        await self._follow()
                    case JobState.RUNNING:
                        await self._follow()
                    case JobState.RECOVERING:
                        await self._recover()
                    case JobState.FINISHING:
                        await self._hear_last_words()
                        await self._finish()
                    case _:
                        return None  # it is over, or was paused or cancelled while it waited
            except Exception as error:
                failure = failure_of(error)
                if self._lost_its_port(failure):
                    await self._launch_elsewhere(failure)
                elif self.crew.progress.full and self._is_launched:
                    return "pause"
                elif lost := self._lost_workers(error):
                    if self.spec.on_worker_loss == "fail":
                        raise
                    self._note_lost(lost)
                    if self.spec.on_worker_loss == "pause":
                        return "pause"
                    self._move(JobState.RECOVERING, told(lost))
                else:
                    raise

    def _lost_its_port(self, failure: Failure) -> bool:
        """Whether somebody took the main port between our look at it and torch's own."""
        was_taken = PORT_TAKEN.search(failure.reason) is not None
        return was_taken and self.state is JobState.STARTING and self._ports_lost < PORT_TRIES

    async def _launch_elsewhere(self, failure: Failure) -> None:
        self._ports_lost += 1
        log.warning("%s; starting again with another port", failure.reason)
        await self.crew.leave("kill", STOP_GRACE_S)
        self.crew.prepare_again()
        self._forget_launch()

    def _forget_launch(self) -> None:
        with self.store.transaction():
            generation = self.store.job(self.job).generation
            self.store.note_plan(self.job, replace(self.crew.plan, lit=()))
            self.store.note_launch(self.job, generation=generation, main_port=None)

    def _lost_workers(self, error: Exception) -> dict[str, str]:
        """The workers whose loss an error tells of, with reasons; none when it tells something
        else, which ends the job."""
        if self.state not in (JobState.STARTING, JobState.RUNNING):
            return {}
        progress, has_begun = self.crew.progress, self.store.step(self.job) > 0
        failure, unseen = failure_of(error), self.crew.watch.unseen
        if failure in progress.failures:
            return who_is_lost(progress.failures, unseen, has_begun=has_begun)
        is_host = isinstance(first_of(error), HostError)
        return {failure.host: failure.reason} if is_host and has_begun else {}

    def _note_lost(self, lost: Mapping[str, str]) -> None:
        planned = {worker.host.name for worker in self.crew.workers}
        for host in sorted(lost.keys() & planned):
            self.crew.progress.lost.setdefault(host, lost[host])
            is_there = not self.crew.watch.unseen.get(host)
            lose(self.store, self.job, host, lost[host], counts=False, is_there=is_there)
        self.store.note_traceback(
            self.job, next((f.traceback for f in self.crew.progress.failures if f.traceback), "")
        )

    # before the launch

    async def _prepare(self) -> None:
        has_begun = self.crew.progress.generation > 0
        if has_begun:
            await self._look_for_a_newer_checkpoint()
        errors = await self.crew.prepare()
        try:
            if errors:
                self._go_on_without(errors)
            self._check_workers()
        except RunFailedError as error:
            if not has_begun:
                raise
            self._rest(error.failure)
            return
        self._move(JobState.STARTING)

    async def _look_for_a_newer_checkpoint(self) -> None:
        """Workers that were out of reach when the job left them may have the newest one."""
        there = [worker for worker in self.crew.workers if worker.place is not None]
        try:
            await checkpoints.bring_newest(self.home, self.job, there)
        except (HostError, OSError) as error:
            log.warning("going on from the checkpoint that is here: %s", error)

    def _rest(self, failure: Failure) -> None:
        """What was learnt is kept: nothing runs, so the job rests again."""
        where = f"{failure.host}: " if failure.host else ""
        self.crew.let_go()
        self._move(JobState.PAUSING)
        place = resting_place(self.store, self.job)
        self._move(JobState.PAUSED, f"{place}; {where}{failure.reason}")

    def _check_workers(self) -> None:
        """Raises RunFailedError when the job would not be what it was, or when two workers would
        not compute the same."""
        if self.crew.progress.generation > 0 and (problem := self.crew.model_problem()):
            raise RunFailedError(Failure(host="", reason=problem))
        self._compare_workers()

    def _compare_workers(self) -> None:
        """Raises RunFailedError when two workers would not compute the same."""
        environments = {w.host.name: w.place.environment for w in self.crew.workers if w.place}
        if found := difference(environments):
            raise RunFailedError(Failure(host=found[0], reason=found[1]))
        if notice := harmless_difference(environments):
            log.warning("%s", notice)

    def _go_on_without(self, errors: dict[str, HostError]) -> None:
        record = self.store.job(self.job)
        everyone = self.crew.inventory.with_coordinator()
        at_least = selection_of(record, self.spec, everyone).at_least
        plan, slots = self.crew.plan, self.store.given_slots(self.job)
        try:
            for host, error in errors.items():
                plan = without(plan, host, str(error), at_least, slots)
        except NoWorkersError:
            host, error = next(iter(errors.items()))
            reason = error.message + (f"; {error.remedy}" if error.remedy else "")
            raise RunFailedError(Failure(host=host, reason=reason)) from error
        with self.store.transaction():
            self.store.note_plan(self.job, plan)
            self.store.leases.free(self.job)
            self.store.leases.take(self.job, resources(plan))
        for host, error in errors.items():
            log.warning("going on without %s: %s", host, error)
        self._meet_crew()

    async def _launch(self) -> None:
        """Stores what will be launched, then launches it: a repeat is the same launch."""
        record = self.store.job(self.job)
        port = record.main_port
        if port is None:
            port = await self.crew.reserve_port()
            plan = replace(self.crew.plan, lit=self.crew.plan.lighthouses(port))
            with self.store.transaction():
                self.store.note_launch(self.job, generation=record.generation + 1, main_port=port)
                self.store.note_plan(self.job, plan)
                self.store.note_slots(self.job, plan)
        self._meet_crew()
        self._stage("starting the ranks")
        # A start that is cut short may still happen there, after the end has looked for it. So
        # neither a request nor another worker's failure cancels one.
        async with self._launching:
            await self.crew.launch(self.spec, port, _secrets())

    # while it runs

    async def _follow(self) -> None:
        """Follows all workers until every rank has finished, one has failed, or who takes part
        changes so that another generation is needed."""
        watch, progress = self.crew.watch, self.crew.progress
        async with watch.watching():
            if self.state is JobState.STARTING:
                await watch.wait_until_ready(self.spec.start_timeout)
                self.crew.note_training()
                self._move(JobState.RUNNING)
                self._ports_lost = 0
            members = Membership(self.store, self.crew, self.spec, _secrets(), self._launching)
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
                self._arrivals = members.arrivals
                self._move(JobState.RECOVERING, attending.result())
                return
            if (problem := progress.weights_problem()) is not None:
                raise RunFailedError(problem)
            self._move(JobState.FINISHING)

    async def _hear_last_words(self) -> None:
        """An elastic rank that is late is not waited for: the others have what it would learn."""
        limit_s = LAST_WORDS_S if self.crew.plan.is_elastic else FINISH_LIMIT_S
        async with self.crew.watch.watching():
            await self.crew.watch.hear_last_words(limit_s)

    async def _recover(self) -> None:
        """Ends the generation that runs, and prepares the next one with who is there and who is to
        be."""
        if self._is_launched:
            await end_generation(self.crew)
            if self.crew.progress.is_complete:  # its last step was quicker
                self._move(JobState.FINISHING)
                return
            lost = self.crew.progress.lost
            there = [worker for worker in self.crew.workers if worker.host.name not in lost]
            if there:
                await bring_checkpoint(self.store, self.job, there, self._stage)
        if not plan_next(self.store, self.job, self.crew, self._arrivals):
            self._wait_for_workers()
            return
        self._arrivals = {}
        self._meet_crew()
        errors = await self.crew.prepare()
        for host, error in errors.items():
            counts = not isinstance(error, UnreachableError)
            lose(self.store, self.job, host, str(error), counts=counts, is_there=False)
        if errors:
            return  # without them, then
        try:
            self._check_workers()
        except RunFailedError as error:
            self._rest(error.failure)
            return
        self._move(JobState.STARTING)

    def _wait_for_workers(self) -> None:
        """Nobody is left. The job goes on when enough of those that it may have are there again."""
        workers = self.store.workers(self.job)
        hopeless = [worker for worker in workers if is_hopeless(worker)]
        if hopeless and len(hopeless) == len([w for w in workers if w.state in AWAY]):
            worker = hopeless[0]
            reason = quarantine_reason(worker.reason)
            raise RunFailedError(Failure(host=worker.host, reason=reason))
        record = self.store.job(self.job)
        with self.store.transaction():
            inventory = load(Inventory, record.inventory)
            self.store.note_wish(self.job, spec=self.spec, inventory=inventory, same_hosts=())
            self._move(JobState.QUEUED, waits_for(workers))

    async def _finish(self) -> None:
        """Brings the result here, however long its worker is out of reach, and makes sure that
        nothing is left of the run."""
        for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
            self._stage("fetching the adapter")
            try:
                output = await collect(
                    self.home, self.job, self.spec, self.crew.with_result, self.output_dir
                )
                self.store.note_output(self.job, output)
                break
            except UnreachableError as error:
                self._stage(f"the adapter waits on {error}")
                await asyncio.sleep(pause_s)
        left = await self.crew.leave("kill", STOP_GRACE_S)
        self._move(JobState.DONE, "; ".join(left))

    async def _pause(self) -> None:
        """Stops the ranks after a checkpoint, brings that here, and lets go of the workers."""
        if self.state is JobState.FINISHING:
            await self._advance_patiently()
            return
        self._move(JobState.PAUSING)
        left: list[str] = []
        step = checkpoints.kept(self.home, self.job)
        if self._is_launched:
            left = await self._stop_ranks()
            if self.crew.progress.is_complete:  # its last step was quicker
                self._move(JobState.FINISHING)
                await self._advance_patiently()
                return
            lost = self.crew.progress.lost
            there = [worker for worker in self.crew.workers if worker.host.name not in lost]
            step = await bring_checkpoint(self.store, self.job, there, self._stage)
        else:
            self.crew.let_go()
        done = self.store.step(self.job)
        place = resting_place(self.store, self.job)
        if done and step is None:
            place += "; there is no checkpoint, it will begin again"
        elif step is not None and step < done:
            place += f"; it goes on from checkpoint-{step}"
        if full := self.crew.progress.full:
            place += f"; {'; '.join(full.values())}: free some space there, then resume it"
        elif self.crew.progress.lost:
            place += f"; lost {told(self.crew.progress.lost)}"
        elif self.crew.progress.has_begun and (failure := self.crew.progress.failure):
            place += f"; {failure.host}: {failure.reason}"
        with self.store.transaction():
            if not {"cancel", "kill"} & set(self.store.open_requests(self.job)):
                self._move(JobState.PAUSED, "; ".join([place, *left]))
                return
        await self._end(JobState.CANCELLED, "kill", "; ".join(left))

    async def _stop_ranks(self) -> list[str]:
        """Ranks that have begun save a checkpoint; of the others there is nothing to save."""
        watch = self.crew.watch
        async with watch.watching():
            if self.crew.can_save:
                left = await self.crew.leave("stop", PAUSE_GRACE_S)
            else:
                left = await self.crew.leave("kill", STOP_GRACE_S)
            await watch.hear_last_words(LAST_WORDS_S)
        return left

    async def _end(self, state: JobState, action: Ending, reason: str) -> None:
        """Ends the job early: `state` is reached once nothing of it is left on any worker."""
        if state is JobState.CANCELLED:
            if self.state is JobState.STARTING:
                action = "kill"  # no step was taken that a checkpoint could keep
            self._move(JobState.STOPPING)
        left: list[str] = []
        if self._is_launched:
            async with self.crew.watch.watching():
                left = await self.crew.leave(action, STOP_GRACE_S)
                await self.crew.watch.hear_last_words(LAST_WORDS_S)
        self._move(state, "; ".join(filter(None, [reason, *left])))

    def _move(self, state: JobState, reason: str = "") -> None:
        log.info("%s%s", state, f": {reason}" if reason else "")
        self.store.move_job(self.job, state, reason)

    def _stage(self, text: str) -> None:
        log.info("%s", text)
        self.store.note_stage(self.job, text)

    def _say(self, host: str, text: str) -> None:
        """What happens on a host now; transfers say it often, the state takes some of it."""
        now = time.monotonic()
        if now - self._said_at > SAY_EVERY_S:
            self._said_at = now
            self.store.note_stage(self.job, f"{host}: {text}")
        log.debug("%s: %s", host, text)


def _secrets() -> dict[str, str]:
    return {name: os.environ[name] for name in _SECRETS if name in os.environ}


def _is_ours(error: BaseException) -> bool:
    """Whether it is this machine that has a problem, and none of the workers."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_ours(inner) for inner in error.exceptions)
    return isinstance(error, StateError | OSError | sqlite3.Error)


def first_of(error: BaseException) -> BaseException:
    """The exception itself, or the first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def failure_of(error: BaseException) -> Failure:
    """What to tell people about an exception; a group tells its first."""
    error = first_of(error)
    match error:
        case RunFailedError():
            return error.failure
        case HostError():
            reason = "; ".join(filter(None, [error.message, error.remedy]))
            return Failure(host=error.host, reason=reason)
        case SollolError():
            return Failure(host="", reason=str(error))
        case _:
            return Failure(host="", reason=f"sollol itself failed: {type(error).__name__}: {error}")
