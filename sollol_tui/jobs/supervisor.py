"""Looks after one job from submit to end. It owns the job's state; the truth of the run lies on the
workers. Its process, and that there is only one, stand in supervise.py.
"""

import asyncio
import logging
import os
import re
import sqlite3
import time
from collections import Counter
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Final, Literal

from sollol_tui.jobs import checkpoints
from sollol_tui.jobs.crew import REQUEST_POLL_S, Crew
from sollol_tui.jobs.fingerprints import difference, harmless_difference
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.planner import resources, without
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.queue import Turn, selection_of
from sollol_tui.jobs.records import load
from sollol_tui.jobs.requests import resting_place
from sollol_tui.jobs.results import collect
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.watch import LAST_WORDS_S, RunFailedError
from sollol_tui.jobs.worker import RECONNECT_S, Ending
from sollol_tui.model.errors import (
    HostError,
    NoWorkersError,
    SollolError,
    StateError,
    UnreachableError,
)
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState

log = logging.getLogger("sollol.supervisor")
STOP_GRACE_S: Final = 60.0  # for the step in flight and its checkpoint
PAUSE_GRACE_S: Final = 150.0  # a pause is for the checkpoint: the agent itself gives up before
SAY_EVERY_S: Final = 0.2
LAUNCH_TRIES: Final = 3
FINISH_LIMIT_S: Final = 30.0  # how long the other workers' last words are waited for
PORT_TAKEN: Final = re.compile(r"main port \d+ is in use|[Aa]ddress already in use|EADDRINUSE")
_SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
_LAUNCHED: Final = (JobState.STARTING, JobState.RUNNING, JobState.FINISHING)
Wish = Literal["go on", "pause", "cancel", "kill"]  # the later, the graver


class Supervisor:
    def __init__(self, home: Home, store: Store, job: str) -> None:
        self.home, self.store, self.job = home, store, job
        self._launching = asyncio.Lock()
        self._said_at = 0.0
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
                break
            async with self._launching:
                work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            wish = asked.result()
        try:
            await work
        except Exception as error:
            failure = _failure_of(error)
            log.exception("%s", failure.reason)
            if self.state.is_terminal:
                return
            self.store.note_traceback(self.job, failure.traceback)
            where = f"{failure.host}: " if failure.host else ""
            await self._end(JobState.FAILED, "kill", f"{where}{failure.reason}")

    async def _fulfil(self, wish: Wish) -> None:
        match wish:
            case "go on":
                await self._advance_patiently()
            case "pause":
                await self._pause()
            case "cancel":
                await self._end(JobState.CANCELLED, "stop", "")
            case "kill":
                await self._end(JobState.CANCELLED, "kill", "")

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

    async def _advance_patiently(self) -> None:
        """Advances the job. What goes wrong on this machine alone, a full disk or a busy state, is
        no reason to end a run that goes on elsewhere: it is tried again until it works."""
        for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
            try:
                await self._advance()
                return
            except Exception as error:
                if not _is_ours(error) or not self._is_launched:
                    raise
                log.exception("trying again in %g s", pause_s)
                with suppress(StateError):
                    self._stage(f"this machine: {_failure_of(error).reason}; trying again")
                await asyncio.sleep(pause_s)
                self._meet_crew()

    async def _advance(self) -> None:
        """From the state the job is found in to done. Every phase may be repeated."""
        if self.state is JobState.QUEUED:
            await Turn(self.store, self.job).wait()
            self._meet_crew()
        if self.state is JobState.PLANNING:
            self._move(JobState.PROVISIONING)
        if self.state is JobState.PROVISIONING:
            await self._prepare()
        if self.state not in _LAUNCHED:
            return  # it was paused or cancelled while it waited
        for attempt in range(LAUNCH_TRIES):
            try:
                if self.state is JobState.STARTING:
                    await self._launch()
                await self._follow()
                break
            except Exception as error:
                failure = _failure_of(error)
                if attempt == LAUNCH_TRIES - 1 or not self._lost_its_port(failure):
                    raise
                log.warning("%s; starting again with another port", failure.reason)
                await self.crew.leave("kill", STOP_GRACE_S)
                self.crew.prepare_again()
                generation = self.store.job(self.job).generation
                self.store.note_launch(self.job, generation=generation, main_port=None)
        await self._finish()

    def _lost_its_port(self, failure: Failure) -> bool:
        """Whether somebody took the main port between our look at it and torch's own."""
        return self.state is JobState.STARTING and PORT_TAKEN.search(failure.reason) is not None

    # before the launch

    async def _prepare(self) -> None:
        errors = await self.crew.prepare()
        has_begun = self.crew.progress.generation > 0
        try:
            if errors:
                self._go_on_without(errors)
            if has_begun and (problem := self.crew.model_problem()):
                raise RunFailedError(Failure(host="", reason=problem))
        except RunFailedError as error:
            if not has_begun:
                raise
            # What was learnt is kept: nothing runs, so the job rests again.
            where = f"{error.failure.host}: " if error.failure.host else ""
            told = f"{resting_place(self.store, self.job)}; {where}{error.failure.reason}"
            self.crew.let_go()
            self._move(JobState.PAUSING)
            self._move(JobState.PAUSED, told)
            return
        self._compare_workers()
        self._move(JobState.STARTING)

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
            with self.store.transaction():
                self.store.note_launch(self.job, generation=record.generation + 1, main_port=port)
                self.store.note_slots(self.job, self.crew.plan)
        self._meet_crew()
        self._stage("starting the ranks")
        # A start that is cut short may still happen there, after the end has looked for it. So
        # neither a request nor another worker's failure cancels one.
        async with self._launching:
            await self.crew.launch(self.spec, port, _secrets())

    # while it runs

    async def _follow(self) -> None:
        """Follows all workers until every rank has finished, or one has failed."""
        watch, progress = self.crew.watch, self.crew.progress
        async with watch.watching():
            if self.state is JobState.STARTING:
                await watch.wait_until_ready(self.spec.start_timeout)
                self._move(JobState.RUNNING)
            returns = asyncio.create_task(self._bring_back_the_vanished())
            try:
                await watch.wait_for(lambda: progress.is_complete)
            finally:
                async with self._launching:
                    returns.cancel()
            if (problem := progress.weights_problem()) is not None:
                raise RunFailedError(problem)
            self._move(JobState.FINISHING)
            # An elastic rank that is late is not waited for: the others have what it would learn.
            limit_s = LAST_WORDS_S if self.crew.plan.is_elastic else FINISH_LIMIT_S
            await watch.hear_last_words(limit_s)

    async def _bring_back_the_vanished(self) -> None:
        """Launches lost workers of an elastic job again whose hosts restarted, or lost their agent;
        their ranks take over what the others have learnt meanwhile."""
        tries: Counter[str] = Counter()
        while True:
            host = await self.crew.watch.vanished.get()
            tries[host] += 1
            port = self.store.job(self.job).main_port
            if port is None or tries[host] > LAUNCH_TRIES:
                continue
            try:
                async with self._launching:
                    await self.crew.bring_back(host, self.spec, port, _secrets())
                self._stage(f"{host} is launched again")
            except SollolError as error:
                log.warning("%s is not launched again: %s", host, error)

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
            step = await self._bring_checkpoint()
        else:
            self.crew.let_go()
        done = self.store.step(self.job)
        told = resting_place(self.store, self.job)
        if done and step is None:
            told += "; there is no checkpoint, it will begin again"
        elif step is not None and step < done:
            told += f"; it goes on from checkpoint-{step}"
        if self.crew.progress.all_ready and (failure := self.crew.progress.failure):
            told += f"; {failure.host}: {failure.reason}"
        with self.store.transaction():
            if not {"cancel", "kill"} & set(self.store.open_requests(self.job)):
                self._move(JobState.PAUSED, "; ".join([told, *left]))
                return
        await self._end(JobState.CANCELLED, "kill", "; ".join(left))

    async def _stop_ranks(self) -> list[str]:
        """Ranks that have begun save a checkpoint; of the others there is nothing to save."""
        watch = self.crew.watch
        async with watch.watching():
            if self.crew.progress.all_ready:
                left = await self.crew.leave("stop", PAUSE_GRACE_S)
            else:
                left = await self.crew.leave("kill", STOP_GRACE_S)
            await watch.hear_last_words(LAST_WORDS_S)
        return left

    async def _bring_checkpoint(self) -> int | None:
        """The newest checkpoint is here before a job rests, however long that takes."""
        for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
            try:
                return await checkpoints.bring_newest(self.home, self.job, self.crew.workers)
            except (HostError, OSError) as error:
                self._stage(f"the checkpoint waits on {error}")
                await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

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


def _failure_of(error: BaseException) -> Failure:
    """What to tell people about an exception; a group tells its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
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
