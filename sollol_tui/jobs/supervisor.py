"""Looks after one job from submit to end. It owns the job's state; the truth of the run lies on the
workers. Its process, and that there is only one, stand in supervise.py.
"""

import asyncio
import logging
import os
import re
import sqlite3
import time
from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from sollol_tui.jobs.home import Home
from sollol_tui.jobs.planner import resources, without
from sollol_tui.jobs.progress import Failure, Progress
from sollol_tui.jobs.records import load
from sollol_tui.jobs.results import collect
from sollol_tui.jobs.runfile import run_file
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.watch import LAST_WORDS_S, RunFailedError, Watch
from sollol_tui.jobs.worker import RECONNECT_S, Ending, Place, Worker
from sollol_tui.model.errors import (
    HostError,
    JobError,
    NoWorkersError,
    SollolError,
    StateError,
    UnreachableError,
)
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState, WorkerState

log = logging.getLogger("sollol.supervisor")
STOP_GRACE_S: Final = 60.0  # for the step in flight and its checkpoint
SAY_EVERY_S: Final = 0.2
LAUNCH_TRIES: Final = 3
FINISH_LIMIT_S: Final = 30.0  # how long the other workers' last words are waited for
PORT_TAKEN: Final = re.compile(r"main port \d+ is in use|[Aa]ddress already in use|EADDRINUSE")
_REQUEST_POLL_S: Final = 0.25
_SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
_UNPREPARED: Final = (JobState.QUEUED, JobState.PLANNING, JobState.PROVISIONING)
_LAUNCHED: Final = (JobState.STARTING, JobState.RUNNING, JobState.FINISHING)


class Supervisor:
    def __init__(self, home: Home, store: Store, job: str) -> None:
        self.home, self.store, self.job = home, store, job
        record = store.job(job)
        self.spec = load(JobSpec, record.spec)
        self.inventory = load(Inventory, record.inventory)
        self.model, self.nonce = record.model, record.nonce
        self.output_dir = Path(record.output_dir)
        self._take_plan(load(Plan, record.plan), record.generation)
        self._launched = record.main_port is not None
        self._launching = asyncio.Lock()
        self._said_at = 0.0

    def _take_plan(self, plan: Plan, generation: int) -> None:
        self.plan = plan
        places = {worker.host: worker.environment for worker in self.store.workers(self.job)}
        self.workers: list[Worker] = []
        for planned in plan.workers:
            place = places.get(planned.host)
            self.workers.append(
                Worker(
                    job=self.job,
                    nonce=self.nonce,
                    host=self.inventory.with_coordinator().host(planned.host),
                    planned=planned,
                    home=self.home,
                    say=partial(self._say, planned.host),
                    place=Place.from_data(place) if place else None,
                )
            )
        progress = Progress(plan=plan, generation=generation)
        self.watch = Watch(self.store, self.job, self.inventory.file, progress, self.workers)

    @property
    def state(self) -> JobState:
        return self.store.job(self.job).state

    async def run(self) -> None:
        """Brings the job to its end, whatever state it is found in."""
        advance = asyncio.create_task(self._advance_patiently())
        request = asyncio.create_task(self._stop_requested())
        await asyncio.wait({advance, request}, return_when=asyncio.FIRST_COMPLETED)
        if request.done() and not self.state.is_terminal:
            async with self._launching:
                advance.cancel()
            await asyncio.gather(advance, return_exceptions=True)
            await self._end(JobState.CANCELLED, request.result(), "")
            return
        request.cancel()
        try:
            await advance
        except Exception as error:
            failure = _failure_of(error)
            log.exception("%s", failure.reason)
            self.store.note_traceback(self.job, failure.traceback)
            where = f"{failure.host}: " if failure.host else ""
            await self._end(JobState.FAILED, "kill", f"{where}{failure.reason}")

    async def _stop_requested(self) -> Ending:
        """Waits for a request to end the job; returns the control action that it means."""
        while True:
            with suppress(StateError):  # it may be busy; the next look is soon
                requests = self.store.open_requests(self.job)
                if "kill" in requests:
                    return "kill"
                if requests or self.state is JobState.STOPPING:
                    return "stop"
            await asyncio.sleep(_REQUEST_POLL_S)

    async def _advance_patiently(self) -> None:
        """Advances the job. What goes wrong on this machine alone, a full disk or a busy state, is
        no reason to end a run that goes on elsewhere: it is tried again until it works."""
        for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
            try:
                await self._advance()
                return
            except Exception as error:
                if not _is_ours(error) or not self._launched:
                    raise
                log.exception("trying again in %g s", pause_s)
                with suppress(StateError):
                    self._stage(f"this machine: {_failure_of(error).reason}; trying again")
                await asyncio.sleep(pause_s)
                self._take_plan(self.plan, self.watch.progress.generation)

    async def _advance(self) -> None:
        """From the state the job is found in to done. Every phase may be repeated."""
        if self.state in _UNPREPARED:
            await self._prepare()
        if self.state not in _LAUNCHED:
            return  # it is being stopped: the end takes care of it
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
                await self._leave_nothing("kill")
                for worker in self.workers:
                    for state in (WorkerState.PROVISIONING, WorkerState.READY):
                        self.store.move_worker(self.job, worker.host.name, state)
                self.store.note_launch(
                    self.job, generation=self.watch.progress.generation, main_port=None
                )
        await self._finish()

    def _lost_its_port(self, failure: Failure) -> bool:
        """Whether somebody took the main port between our look at it and torch's own."""
        return self.state is JobState.STARTING and PORT_TAKEN.search(failure.reason) is not None

    # before the launch

    async def _prepare(self) -> None:
        if self.state is JobState.QUEUED:
            self._move(JobState.PLANNING)
        if self.state is JobState.PLANNING:
            self._move(JobState.PROVISIONING)
        errors: dict[str, HostError] = {}

        async def prepare(worker: Worker) -> None:
            name = worker.host.name
            self.store.move_worker(self.job, name, WorkerState.PROVISIONING)
            try:
                place = await worker.prepare(self.inventory.packages, self.plan.dataset, self.model)
            except HostError as error:
                errors[name] = error
                self.store.move_worker(self.job, name, WorkerState.LOST, str(error))
                return
            self.store.note_worker(
                self.job, name, environment=place.as_data(), run_dir=place.run_dir
            )
            self.store.move_worker(self.job, name, WorkerState.READY)

        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(prepare(worker))
        if errors:
            self._go_on_without(errors)
        self._move(JobState.STARTING)

    def _go_on_without(self, errors: dict[str, HostError]) -> None:
        at_least = select(self.inventory.with_coordinator(), self.spec.workers).at_least
        plan = self.plan
        try:
            for host, error in errors.items():
                plan = without(plan, host, str(error), at_least)
        except NoWorkersError:
            host, error = next(iter(errors.items()))
            reason = error.message + (f"; {error.remedy}" if error.remedy else "")
            raise RunFailedError(Failure(host=host, reason=reason)) from error
        self.store.replan(self.job, plan, resources(plan))
        for host, error in errors.items():
            log.warning("going on without %s: %s", host, error)
        self._take_plan(plan, self.watch.progress.generation)

    async def _launch(self) -> None:
        """Stores what will be launched, then launches it: a repeat is the same launch."""
        record = self.store.job(self.job)
        port, generation = record.main_port, record.generation
        if port is None:
            port, generation = await self._reserve_port(), generation + 1
            self.store.note_launch(self.job, generation=generation, main_port=port)
        self._take_plan(self.plan, generation)
        self._launched = True
        secrets = {name: os.environ[name] for name in _SECRETS if name in os.environ}
        self._stage("starting the ranks")

        async def launch(worker: Worker) -> None:
            assert worker.place is not None
            run = run_file(
                job=self.job,
                nonce=record.nonce,
                spec=self.spec,
                plan=self.plan,
                host=worker.host,
                place=worker.place,
                generation=generation,
                main_port=port,
            )
            await worker.launch(run, secrets)

        # A start that is cut short may still happen there, after the end has looked for it. So
        # neither a request nor another worker's failure cancels one.
        async with self._launching:
            ends = await asyncio.gather(*map(launch, self.workers), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        for worker in self.workers:
            self.store.move_worker(self.job, worker.host.name, WorkerState.TRAINING)

    async def _reserve_port(self) -> int:
        main = self.workers[0]
        first, last = self.plan.ports
        while True:
            port = await main.choose_port(first, last) if first <= last else None
            if port is None:
                raise RunFailedError(
                    Failure(
                        host=main.host.name,
                        reason=f"no port of {'-'.join(map(str, self.plan.ports))} is free; "
                        "set network.ports in the inventory",
                    )
                )
            try:
                self.store.lease(self.job, [f"port {main.planned.address}:{port}"])
            except JobError:
                first = port + 1
            else:
                return port

    # while it runs

    async def _follow(self) -> None:
        """Follows all workers until every rank has finished, or one has failed."""
        async with self.watch.watching():
            if self.state is JobState.STARTING:
                await self.watch.wait_until_ready(self.spec.start_timeout)
                self._move(JobState.RUNNING)
            await self.watch.wait_for(lambda: self.watch.progress.all_finished)
            if (problem := self.watch.progress.weights_problem()) is not None:
                raise RunFailedError(problem)
            self._move(JobState.FINISHING)
            await self.watch.hear_last_words(FINISH_LIMIT_S)

    async def _finish(self) -> None:
        """Brings the result here, however long its worker is out of reach, and makes sure that
        nothing is left of the run."""
        main = self.workers[0]
        for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
            self._stage("fetching the adapter")
            try:
                output = await collect(self.home, self.job, self.spec, main, self.output_dir)
                self.store.note_output(self.job, output)
                break
            except UnreachableError as error:
                self._stage(f"the adapter waits on {error}")
                await asyncio.sleep(pause_s)
        left = await self._leave_nothing("kill")
        self._move(JobState.DONE, "; ".join(left))

    async def _end(self, state: JobState, action: Ending, reason: str) -> None:
        """Ends the job early: `state` is reached once nothing of it is left on any worker."""
        if state is JobState.CANCELLED:
            if self.state is JobState.STARTING:
                action = "kill"  # no step was taken that a checkpoint could keep
            self._move(JobState.STOPPING)
        launched = self.store.job(self.job).main_port is not None
        left: list[str] = []
        if launched:
            async with self.watch.watching():
                left = await self._leave_nothing(action)
                await self.watch.hear_last_words(LAST_WORDS_S)
        self._move(state, "; ".join(filter(None, [reason, *left])))

    async def _leave_nothing(self, action: Ending) -> list[str]:
        """Makes every worker free of the run; returns what could not be verified, in sentences."""
        hurry = asyncio.Event()

        async def watch_for_kill() -> None:
            # Requests come from other processes, through the state: there is no event to wait for.
            while not hurry.is_set():
                await asyncio.sleep(_REQUEST_POLL_S)
                if "kill" in self.store.open_requests(self.job):
                    hurry.set()

        async def stop(worker: Worker) -> str:
            name = worker.host.name
            self.store.move_worker(self.job, name, WorkerState.LEAVING)
            problem = await worker.stop(action, STOP_GRACE_S, hurry)
            self.store.move_worker(self.job, name, WorkerState.GONE, problem)
            return problem

        watcher = asyncio.create_task(watch_for_kill())
        try:
            problems = await asyncio.gather(*(stop(worker) for worker in self.workers))
        finally:
            watcher.cancel()
        return [problem for problem in problems if problem]

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
