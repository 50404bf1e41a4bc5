"""The workers of one generation of a job, taken together: prepared, launched, watched and left.

What the job does next is decided elsewhere; a worker that fails is told by its name.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from sollol_tui.jobs import checkpoints, teacher_rows
from sollol_tui.jobs.delivery import delivery
from sollol_tui.jobs.events import note
from sollol_tui.jobs.leases import TakenError
from sollol_tui.jobs.progress import Failure, Progress
from sollol_tui.jobs.records import JobRecord, load
from sollol_tui.jobs.recovery import AWAY
from sollol_tui.jobs.runfile import run_file
from sollol_tui.jobs.sight import LOST_AFTER_S
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.teacher_run import former_teachers, teaching_workers
from sollol_tui.jobs.watch import RunFailedError, Watch
from sollol_tui.jobs.worker import CLEANUP_LIMIT_S, LOST_PATIENCE_S, Ending, Place, Worker
from sollol_tui.model.errors import HostError, StateError, UnsuitableError
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.plan import Plan, PlannedWorker
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import WorkerState

REQUEST_POLL_S: Final = 0.25
_CLEAR_S: Final = 30.0


class Crew:
    """`say(host, text)` tells people what happens on a host now."""

    def __init__(self, store: Store, record: JobRecord, say: Callable[[str, str], None]) -> None:
        self._store, self._record = store, record
        self.job = record.id
        self.plan = load(Plan, record.plan)
        self.inventory = load(Inventory, record.inventory)
        self._say = say
        known = store.workers(self.job)
        self._models = {
            Path(worker.environment["model"]).name for worker in known if worker.environment
        }
        everyone = self.inventory.with_coordinator()
        self.workers = [
            self.worker(planned, everyone.host(planned.host)) for planned in self.plan.workers
        ]
        self.teachers = teaching_workers(store, record, say)
        self.lost_teachers: Collection[str] = ()
        """Hosts of the teacher that have been out of sight for long, or cannot score."""
        self.progress = Progress(plan=self.plan, generation=record.generation)
        planned_hosts = {worker.host.name for worker in self.workers}
        self.progress.lost |= {
            worker.host: worker.reason
            for worker in known
            if worker.state in AWAY and worker.host in planned_hosts
        }
        self.watch = Watch(store, self.job, self.inventory.file, self.progress, self.workers)

    def worker(self, planned: PlannedWorker, host: Host) -> Worker:
        """A worker of the job, or one that is to be."""
        places = {worker.host: worker.environment for worker in self._store.workers(self.job)}
        place = places.get(planned.host)
        return Worker(
            job=self.job,
            nonce=self._record.nonce,
            host=host,
            planned=planned,
            home=self._store.home,
            say=partial(self._say, planned.host),
            place=Place.from_data(place) if place else None,
        )

    def follow_plan(self, plan: Plan, arrivals: Sequence[Worker] = ()) -> None:
        """The workers of a running generation are those of another plan from now on."""
        self.plan = self.progress.plan = plan
        known = {worker.host.name: worker for worker in (*self.workers, *arrivals)}
        self.workers = [known[planned.host] for planned in plan.workers]
        for worker, planned in zip(self.workers, plan.workers, strict=True):
            worker.planned = planned
        self.watch.follow(self.workers)

    @property
    def main(self) -> Worker:
        """The worker of rank 0, which leaves the result."""
        return self.workers[0]

    @property
    def with_result(self) -> Worker:
        """The worker whose rank has said that it left the result; the main one until then."""
        host = self.progress.result_host
        return next((worker for worker in self.workers if worker.host.name == host), self.main)

    async def prepare(self) -> dict[str, HostError]:
        """Brings to every worker what it needs, also the checkpoint from which the job goes on, and
        returns why some are not ready."""
        errors: dict[str, HostError] = {}
        home = self._store.home
        if damage := await asyncio.to_thread(checkpoints.drop_damaged, home, self.job):
            note(self._store, self.job, "notice", message=damage)

        async def prepare(worker: Worker) -> None:
            try:
                await self.prepare_one(worker)
            except HostError as error:
                errors[worker.host.name] = error
                self._store.move_worker(self.job, worker.host.name, WorkerState.LOST, str(error))

        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(prepare(worker))
        return errors

    async def prepare_one(self, worker: Worker) -> None:
        """Brings to one worker what it needs. Raises HostError."""
        name = worker.host.name
        self._store.move_worker(self.job, name, WorkerState.PROVISIONING)
        place = await worker.prepare(self.inventory.packages, self.plan.dataset, self._record.model)
        await self._clear(worker)
        if not self.plan.apart:  # who learns apart goes on from its own
            await checkpoints.give(self._store.home, self.job, worker)
        if not self.is_same_model(worker):
            return  # told by `model_problem`; what it began with is not forgotten
        self._store.note_worker(self.job, name, environment=place.as_data(), run_dir=place.run_dir)
        self._store.move_worker(self.job, name, WorkerState.READY)

    async def _clear(self, worker: Worker) -> None:
        """A host that was out of reach when the job left it may still run the last generation."""
        if self._record.generation == 0:
            return
        if problem := await worker.stop("kill", _CLEAR_S, asyncio.Event()):
            raise HostError(worker.host.name, f"is not free of the last launch: {problem}")

    async def identify_teacher(self, worker: Worker | None = None) -> None:
        """Finds out what the teacher is, once for the job: what it says is named after that. A
        prepared `worker` is asked where this machine cannot tell. Raises HostError, InputError."""
        teacher = self.plan.teacher
        if teacher is None or teacher.content:
            return
        model, delivered = teacher.lesson.model, delivery(self._store.home, self.job)
        content = await delivered.content_of(model)
        if not content and worker is not None and worker.place is not None:
            content = await worker.over_ssh(
                partial(
                    delivered.ask_content,
                    workdir=worker.workdir,
                    environment=worker.place.environment,
                    model=model,
                )
            )
        if content:
            self.follow_plan(replace(self.plan, teacher=replace(teacher, content=content)))
            self._store.note_plan(self.job, self.plan)

    async def dismiss_teachers(self) -> list[str]:
        """Makes the teacher's hosts free of the run; returns what could not be verified. It has
        nothing to save, so the job is not held for longer than it takes to call a host lost."""
        hosts = [*self.teachers, *former_teachers(self._store, self._record, self._say)]
        if not hosts:
            return []
        problems = await asyncio.gather(*map(self._dismiss_teacher, hosts))
        teacher_rows.dismiss(self._store, self.job)
        return [problem for problem in problems if problem]

    async def _dismiss_teacher(self, worker: Worker) -> str:
        is_lost = worker.host.name in self.lost_teachers
        patience_s = LOST_PATIENCE_S if is_lost else LOST_AFTER_S
        problem = await worker.stop("kill", CLEANUP_LIMIT_S, asyncio.Event(), patience_s)
        if not worker.given_up:
            return problem
        before = ", as it was lost before" if is_lost else ""
        return (
            f"{problem}: {patience_s:g} s were enough{before}, because a teacher has nothing to "
            "save; what it scores there ends by itself"
        )

    def is_same_model(self, worker: Worker) -> bool:
        """Whether a worker got the model that the job began with."""
        if self._record.generation == 0 or worker.place is None or not self._models:
            return True
        return Path(worker.place.model).name in self._models

    def model_problem(self) -> str:
        """Why the job must not go on with the model as it is now; "" when it is what it was."""
        if all(map(self.is_same_model, self.workers)):
            return ""
        return f"the model in {self._record.model} is not the one it began with; put that back"

    def let_go(self) -> None:
        """Notes that workers on which nothing was launched have no part in the job now."""
        for worker in self.workers:
            for state in (WorkerState.LEAVING, WorkerState.GONE):
                self._store.move_worker(self.job, worker.host.name, state)

    def prepare_again(self) -> None:
        """Notes that the workers, which were launched in vain, are ready."""
        for worker in self.workers:
            for state in (WorkerState.PROVISIONING, WorkerState.READY):
                self._store.move_worker(self.job, worker.host.name, state)

    async def reserve_port(self) -> int:
        """Leases a port that is free at the main worker's address, and wherever a lighthouse of the
        job or a student who learns apart will listen."""
        first, last = self.plan.ports
        while True:
            port = await self.main.choose_port(first, last) if first <= last else None
            if port is None:
                raise RunFailedError(
                    Failure(
                        host=self.main.host.name,
                        reason=f"no port of {'-'.join(map(str, self.plan.ports))} is free; "
                        "set network.ports in the inventory",
                    )
                )
            others = [(light.host, light.port) for light in self.plan.lighthouses(port)]
            if self.plan.apart:
                hosts = [worker.host.name for worker in self.workers]
                others += [(host, self.plan.meeting_port(host, port)) for host in hosts]
            addresses = {worker.host: worker.address for worker in self.plan.workers}
            taken = {(self.main.planned.address, port)}
            taken |= {(addresses[host], at) for host, at in others}
            try:
                await asyncio.gather(*(self._check_port(host, at) for host, at in others))
                self._store.leases.take(self.job, [f"port {where}:{at}" for where, at in taken])
            except (TakenError, UnsuitableError):
                first = port + 1
            else:
                return port

    async def _check_port(self, host: str, port: int) -> None:
        """Raises UnsuitableError when nobody could listen there."""
        worker = next(worker for worker in self.workers if worker.host.name == host)
        await worker.choose_port(port, port)

    async def launch(self, spec: JobSpec, main_port: int, secrets: Mapping[str, str]) -> None:
        """Starts every worker's agent, or adopts those that an earlier try has started."""

        starts = (self.launch_one(worker, spec, main_port, secrets) for worker in self.workers)
        ends = await asyncio.gather(*starts, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def note_training(self) -> None:
        """Who has said that it takes part does."""
        for worker in self._store.workers(self.job):
            is_launched = worker.state is WorkerState.READY and worker.slots
            if is_launched and self.progress.is_ready(worker.host):
                self._store.move_worker(self.job, worker.host, WorkerState.TRAINING)

    async def launch_one(
        self, worker: Worker, spec: JobSpec, main_port: int, secrets: Mapping[str, str]
    ) -> None:
        """Starts one worker's agent, or adopts it."""
        assert worker.place is not None
        run = run_file(
            job=self.job,
            nonce=self._record.nonce,
            spec=spec,
            plan=self.plan,
            host=worker.host,
            place=worker.place,
            generation=self._record.generation,
            main_port=main_port,
        )
        await worker.launch(run, dict(secrets))

    @property
    def can_save(self) -> bool:
        """Whether ranks that are told to stop can end at a step that all hold."""
        is_broken = self.progress.lost or self.progress.failures
        is_needed_by_none = self.plan.is_elastic or self.plan.apart
        return self.progress.has_begun and (is_needed_by_none or not is_broken)

    async def halt(self, action: Ending, grace_s: float) -> dict[str, str]:
        """Ends this generation where that can be done now; its workers stay in the job. A lost one
        is cleared when it comes back, and so is one that is lost out of sight meanwhile. Returns
        those of the others that could not be verified, in sentences."""
        there = [worker for worker in self.workers if worker.host.name not in self.progress.lost]
        patience_s = LOST_PATIENCE_S if action == "kill" else CLEANUP_LIMIT_S
        problems = await self._end(there, action, grace_s, patience_s, waits_for_lost=False)
        names = [worker.host.name for worker in there]
        return {name: problem for name, problem in zip(names, problems, strict=True) if problem}

    @property
    def in_reach(self) -> list[Worker]:
        """The workers that can be asked what they hold: who runs, and hosts that are seen though
        their agent is lost."""
        lost, unseen = self.progress.lost, self.watch.unseen
        return [
            worker
            for worker in self.workers
            if not worker.given_up
            and (worker.host.name not in lost or unseen.get(worker.host.name) == "")
        ]

    def give_up_as(self, other: "Crew") -> None:
        """Whom another crew of the job has given up is asked no more by this one either."""
        known = {(w.host.name, w.role): w.given_up for w in (*other.workers, *other.teachers)}
        for worker in (*self.workers, *self.teachers):
            worker.given_up = known.get((worker.host.name, worker.role), "")
        self.lost_teachers = other.lost_teachers

    def _holds_steps(self, worker: Worker) -> bool:
        """Whether a worker may have something to save. Ranks that were launched again and still
        load would first load to the end."""
        return self.progress.is_ready(worker.host.name)

    async def leave(self, action: Ending, grace_s: float) -> list[str]:
        """Makes every worker free of the run; returns what could not be verified, in sentences."""
        for worker in self.workers:
            self._store.move_worker(self.job, worker.host.name, WorkerState.LEAVING)
        problems = await self._end(self.workers, action, grace_s)
        for worker, problem in zip(self.workers, problems, strict=True):
            self._store.move_worker(self.job, worker.host.name, WorkerState.GONE, problem)
        return [problem for problem in problems if problem]

    async def _end(
        self,
        workers: Sequence[Worker],
        action: Ending,
        grace_s: float,
        patience_s: float = CLEANUP_LIMIT_S,
        *,
        waits_for_lost: bool = True,
    ) -> list[str]:
        """What is left on each. No checkpoint is waited for once somebody asks to kill."""
        hurry = asyncio.Event()

        async def look() -> None:
            # Requests come from other processes, through the state: there is no event to wait for.
            while True:
                await asyncio.sleep(REQUEST_POLL_S)
                self.watch.look_around()
                with suppress(StateError):  # it may be busy; the next look is soon
                    if "kill" in self._store.open_requests(self.job):
                        hurry.set()

        ended: set[str] = set()

        def is_needed(host: str) -> bool:
            """Whether one that is out of reach may hold steps of an elastic job that nobody here
            has saved, and may still be seen again in time."""
            is_saved = any(map(self.progress.has_saved_the_last_step, ended))
            is_lost = not waits_for_lost and host in self.watch.sight.lost
            return not (is_lost or (self.plan.is_elastic and is_saved))

        async def stop(worker: Worker) -> str:
            host = worker.host.name
            # Nothing can be saved where nothing runs; nor is such a host waited for.
            if host in self.progress.lost:
                return await worker.stop("kill", grace_s, hurry, LOST_PATIENCE_S)
            ending = action if self._holds_steps(worker) else "kill"
            problem = await worker.stop(
                ending, grace_s, hurry, patience_s, partial(is_needed, host)
            )
            if not problem:
                ended.add(host)
            return problem

        watcher = asyncio.create_task(look())
        try:
            return await asyncio.gather(*(stop(worker) for worker in workers))
        finally:
            watcher.cancel()
