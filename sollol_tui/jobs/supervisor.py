"""Looks after one job from submit to end. It owns the job's state; the truth of the run lies on the
workers. Its process, and that there is only one, stand in supervise.py.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from sollol_tui.jobs.home import Home
from sollol_tui.jobs.ingest import Ingest
from sollol_tui.jobs.planner import resources, without
from sollol_tui.jobs.progress import Failure, Progress
from sollol_tui.jobs.records import load
from sollol_tui.jobs.results import collect
from sollol_tui.jobs.runfile import run_file
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Ending, Place, Worker
from sollol_tui.model.errors import HostError, JobError, NoWorkersError, SollolError
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState, WorkerState

log = logging.getLogger("sollol.supervisor")
STOP_GRACE_S: Final = 60.0  # for the step in flight and its checkpoint
SAY_EVERY_S: Final = 0.2
LAST_WORDS_S: Final = 5.0  # how long the last events of a run are waited for
_REQUEST_POLL_S: Final = 0.25
_SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
_UNPREPARED: Final = (JobState.QUEUED, JobState.PLANNING, JobState.PROVISIONING)
_LAUNCHED: Final = (JobState.STARTING, JobState.RUNNING, JobState.FINISHING)


class _FailedError(Exception):
    """The run cannot go on; ends `advance`, and the job is failed once its workers are clean."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Supervisor:
    def __init__(self, home: Home, store: Store, job: str) -> None:
        self.home, self.store, self.job = home, store, job
        record = store.job(job)
        self.spec = load(JobSpec, record.spec)
        self.inventory = load(Inventory, record.inventory)
        self.model = record.model
        self.output_dir = Path(record.output_dir)
        self._take_plan(load(Plan, record.plan), record.generation)
        self.news = asyncio.Event()
        self._unseen: dict[str, str] = {}
        self._over: set[str] = set()
        self._launching = asyncio.Lock()
        self._said_at = 0.0

    def _take_plan(self, plan: Plan, generation: int) -> None:
        self.plan = plan
        self.progress = Progress(plan=plan, generation=generation)
        self.ingest = Ingest(self.store, self.job, self.inventory.file, self.progress)
        places = {worker.host: worker.environment for worker in self.store.workers(self.job)}
        self.workers: list[Worker] = []
        for planned in plan.workers:
            place = places.get(planned.host)
            self.workers.append(
                Worker(
                    job=self.job,
                    host=self.inventory.with_coordinator().host(planned.host),
                    planned=planned,
                    home=self.home,
                    say=partial(self._say, planned.host),
                    place=Place.from_data(place) if place else None,
                )
            )

    @property
    def state(self) -> JobState:
        return self.store.job(self.job).state

    async def run(self) -> None:
        """Brings the job to its end, whatever state it is found in."""
        advance = asyncio.create_task(self._advance())
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
            requests = self.store.open_requests(self.job)
            if "kill" in requests:
                return "kill"
            if requests or self.state is JobState.STOPPING:
                return "stop"
            await asyncio.sleep(_REQUEST_POLL_S)

    async def _advance(self) -> None:
        """From the state the job is found in to done. Every phase may be repeated."""
        if self.state in _UNPREPARED:
            await self._prepare()
        if self.state is JobState.STARTING:
            await self._launch()
        if self.state in _LAUNCHED:
            await self._follow()
            await self._finish()

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
            raise _FailedError(Failure(host=host, reason=reason)) from error
        self.store.replan(self.job, plan, resources(plan))
        for host, error in errors.items():
            log.warning("going on without %s: %s", host, error)
        self._take_plan(plan, self.progress.generation)

    async def _launch(self) -> None:
        """Stores what will be launched, then launches it: a repeat is the same launch."""
        record = self.store.job(self.job)
        port, generation = record.main_port, record.generation
        if port is None:
            port, generation = await self._reserve_port(), generation + 1
            self.store.note_launch(self.job, generation=generation, main_port=port)
        self._take_plan(self.plan, generation)
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
                raise _FailedError(
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
        async with self._watching():
            if self.state is JobState.STARTING:
                await self._wait_until_ready()
                self._move(JobState.RUNNING)
            await self._wait_for(lambda: self.progress.all_finished)
            if (problem := self.progress.weights_problem()) is not None:
                raise _FailedError(problem)
            self._move(JobState.FINISHING)
            await self._wait_for(self._all_over)

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Copies of the workers' files grow, and are read, while the body runs."""
        self._over.clear()
        for worker in self.workers:
            copies = self.home.copies(self.job, worker.host.name)
            copies.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in sorted(copies.glob("events.*")):
                self._on_data(worker.host.name, path.name, path)
        async with asyncio.TaskGroup() as group:
            watchers = [
                group.create_task(worker.watch(self._on_data, self._on_seen, self._on_over))
                for worker in self.workers
            ]
            yield
            for watcher in watchers:
                watcher.cancel()

    def _all_over(self) -> bool:
        """Whether no agent lives and all that they and their ranks wrote is here."""
        return len(self._over) == len(self.workers)

    async def _finish(self) -> None:
        self._stage("fetching the adapter")
        main = self.workers[0]
        await collect(self.home, self.job, self.spec, main, self.output_dir)
        await self._leave_nothing("stop")
        self._move(JobState.DONE, str(self.output_dir))

    async def _end(self, state: JobState, action: Ending, reason: str) -> None:
        """Ends the job early: `state` is reached once nothing of it is left on any worker."""
        if state is JobState.CANCELLED:
            self._move(JobState.STOPPING)
        launched = self.store.job(self.job).main_port is not None
        left: list[str] = []
        if launched:
            async with self._watching():
                left = await self._leave_nothing(action)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORDS_S):
                        while not self._all_over():
                            self.news.clear()
                            await self.news.wait()
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

    async def _wait_until_ready(self) -> None:
        """Waits for every rank to be ready. To be slow is no fault; to be silent is."""
        async with asyncio.TaskGroup() as group:
            listener = group.create_task(self._fail_on_silence(self.spec.start_timeout))
            await self._wait_for(lambda: self.progress.all_ready)
            listener.cancel()

    async def _fail_on_silence(self, timeout_s: float) -> None:
        """Raises _FailedError when a rank that is not ready says nothing for `timeout_s`. A host
        that is out of sight is not held to be silent."""
        clock = asyncio.get_running_loop().time
        heard: dict[int, tuple[int, float]] = {}
        while True:
            silent = []
            for slot in sorted(self.progress.slots - self.progress.ready.keys()):
                host, said = self.progress.host_of(slot) or "", self.progress.said[slot]
                known, at = heard.get(slot, (-1, 0.0))
                if said != known or self._unseen.get(host):
                    heard[slot] = (said, clock())
                elif clock() - at > timeout_s:
                    silent.append((host, slot))
            if silent:
                ranks = ", ".join(str(slot) for _, slot in silent)
                raise _FailedError(
                    Failure(
                        host=", ".join(dict.fromkeys(host for host, _ in silent)),
                        reason=f"rank {ranks} said nothing for {timeout_s:g} s (start_timeout) and "
                        f"was not ready; see: sollol logs {self.job}",
                    )
                )
            await asyncio.sleep(_REQUEST_POLL_S)

    async def _wait_for(self, met: Callable[[], bool]) -> None:
        """Waits until the progress meets a condition. Raises _FailedError when the run fails
        first."""
        while True:
            self.news.clear()
            if self.progress.failure is not None:
                await self._hear_the_others()
                raise _FailedError(self.progress.failure)
            if (problem := self.progress.world_problem()) is not None:
                raise _FailedError(problem)
            if met():
                return
            await self.news.wait()

    async def _hear_the_others(self) -> None:
        """Gives the other workers a moment to say what went wrong: the first failure heard may be
        that of a rank that merely lost its peer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while not (self._all_over() or self.progress.cause_is_known):
                    self.news.clear()
                    await self.news.wait()

    def _on_data(self, host: str, file: str, path: Path) -> None:
        self.ingest.read(host, file, path)
        self.news.set()

    def _on_over(self, host: str) -> None:
        if host not in self._over:
            self._over.add(host)
            self.progress.lose_agent(host)
            self.news.set()

    def _on_seen(self, host: str, reason: str) -> None:
        """Notes when a worker goes out of sight and comes back; says nothing about its run."""
        if reason == self._unseen.get(host, ""):
            return
        self._unseen[host] = reason
        log.warning("%s: %s", host, reason or "seen again")
        since = time.time() if reason else None
        self.store.note_worker(self.job, host, unseen_since=since, reason=reason)

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


def _failure_of(error: BaseException) -> Failure:
    """What to tell people about an exception; a group tells its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case _FailedError():
            return error.failure
        case HostError():
            reason = "; ".join(filter(None, [error.message, error.remedy]))
            return Failure(host=error.host, reason=reason)
        case SollolError():
            return Failure(host="", reason=str(error))
        case _:
            return Failure(host="", reason=f"sollol itself failed: {type(error).__name__}: {error}")
