"""Who takes part in a generation that runs: hosts that join, leave, are lost and come back. What an
elastic job does by itself is followed here; a change that needs another generation is returned.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final

from sollol_tui.jobs.addresses import with_own_addresses
from sollol_tui.jobs.arrival import receive
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.events import note
from sollol_tui.jobs.planner import resources, with_workers
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.records import WorkerRecord
from sollol_tui.jobs.recovery import (
    AWAY,
    COMING,
    is_hopeless,
    lighthouses_missing,
    may_try,
    quarantine_reason,
    told,
)
from sollol_tui.jobs.regroup import give_up_arrival, leave_alone, lose
from sollol_tui.jobs.roster import begin_try, membership_requests, settle, void_try
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.jobs.worker import LOST_PATIENCE_S, Ending, Worker
from sollol_tui.model.errors import SollolError, UnreachableError
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import WorkerState

log = logging.getLogger("sollol.supervisor")
LEAVE_GRACE_S: Final = 60.0  # for the step in flight, and for the others to go on without it
_LOOK_S: Final = 0.25
_LEFT: Final = (WorkerState.GONE, WorkerState.QUARANTINED)


class Membership:
    """Of one generation. `launching` is held while an agent is started: such a start is not cut
    short. `arrivals` are prepared hosts that take part from the next generation on."""

    def __init__(
        self,
        store: Store,
        crew: Crew,
        spec: JobSpec,
        secrets: Mapping[str, str],
        launching: asyncio.Lock,
    ) -> None:
        self._store, self._crew, self._job = store, crew, crew.job
        self._spec, self._secrets, self._launching = spec, secrets, launching
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # A loss of which only the copies of the workers' files tell is still to be noted.
        away = {worker.host for worker in store.workers(self._job) if worker.state in AWAY}
        self._told_lost = away & crew.progress.lost.keys()
        self._returning: set[str] = set()  # lost workers on their way back
        self.arrivals: dict[str, Worker] = {}

    async def attend(self) -> str:
        """Follows who comes and goes until that needs another generation; returns why. Raises
        RunFailedError when a worker is lost and the job shall not, or cannot, go on without it."""
        self._find_strays()
        try:
            while True:
                self._collect()
                self._crew.note_training()
                self._look_for_losses()
                self._give_back_hosts()
                workers = self._store.workers(self._job)
                if reason := self._needs_generation(workers):
                    return reason
                self._take_up(workers)
                await asyncio.sleep(_LOOK_S)
        finally:
            async with self._launching:
                for task in self._tasks.values():
                    task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _find_strays(self) -> None:
        """Hosts that were on their way into the last generation when that ended, or when its
        supervisor died: a lost worker is looked for again; a join that was taken back is over."""
        planned = {worker.host for worker in self._crew.plan.workers}
        asked = {r.host for r in membership_requests(self._store, self._job) if r.kind == "join"}
        for worker in self._store.workers(self._job):
            if worker.state not in COMING or worker.host in planned | asked:
                continue
            if worker.tried_at is None:
                give_up_arrival(self._store, self._job, worker.host, "its join was taken back")
            else:
                void_try(self._store, self._job, worker.host)
                reason = "its return was cut short"
                lose(self._store, self._job, worker.host, reason, is_there=True)

    def _collect(self) -> None:
        for host, task in [*self._tasks.items()]:
            if task.done():
                del self._tasks[host]
                if not task.cancelled():
                    task.result()

    # losses

    def _look_for_losses(self) -> None:
        progress, unseen = self._crew.progress, self._crew.watch.unseen
        self._crew.watch.look_around()
        sight = self._crew.watch.sight
        for host in sorted(sight.lost - progress.lost.keys()):
            reason = f"out of reach for {sight.lost_after_s:g} s: {unseen.get(host, '')}"
            self._lose_silent(host, reason)
        for host in self._told_lost - progress.lost.keys():
            self._told_lost.discard(host)  # its agent has begun anew
        for host in sorted(progress.lost.keys() - self._told_lost):
            self._go_on_without(host, progress.lost[host])
        for host in sorted(self._told_lost):
            if self._crew.watch.is_alive(host) and host not in progress.agents_finished:
                self._welcome(host)

    def _lose_silent(self, host: str, reason: str) -> None:
        progress = self._crew.progress
        progress.lost[host] = reason
        if not progress.plan.is_elastic:
            failure = Failure(host=host, reason=reason, gone=True)
            progress.failures.append(failure)
            raise RunFailedError(failure)

    def _go_on_without(self, host: str, reason: str) -> None:
        """What the loss of one worker means to an elastic job; a static one fails by itself."""
        if not self._crew.plan.is_elastic or host in self._tasks:
            return
        self._told_lost.add(host)
        if self._spec.on_worker_loss != "continue":
            failure = Failure(host=host, reason=reason, gone=True)
            self._crew.progress.failures.append(failure)
            raise RunFailedError(failure)
        log.warning("going on without %s: %s", host, reason)
        is_there = not self._crew.watch.unseen.get(host)
        lose(self._store, self._job, host, reason, is_there=is_there)
        if host in self._crew.progress.wanted_back:
            leave_alone(self._store, self._job, host, reason)
        self._store.note_stage(self._job, f"going on without {host}: {reason}")

    def _give_back_hosts(self) -> None:
        """Hosts that somebody there wanted back are free of this job once all that was written
        there is here. The last one stays in the plan: with it the job comes to rest."""
        wanted = self._crew.progress.wanted_back & self._told_lost
        for host in sorted(wanted - self._tasks.keys()):
            if self._crew.watch.is_left(host) and len(self._crew.plan.workers) > 1:
                with self._store.transaction():
                    plan = self._without(host)
                self._told_lost.discard(host)
                self._take_out(host, plan)

    def _welcome(self, host: str) -> None:
        """One that was out of sight is back, and its agent is the one that was launched: its rank
        takes over what the others have learnt meanwhile."""
        self._crew.progress.lost.pop(host, None)
        self._told_lost.discard(host)
        for state in (WorkerState.PROVISIONING, WorkerState.READY):
            self._store.move_worker(self._job, host, state)
        self._store.note_stage(self._job, f"{host} is back")

    # another generation

    def _needs_generation(self, workers: list[WorkerRecord]) -> str:
        lost = self._crew.progress.lost
        if self._crew.plan.is_elastic:
            is_coming = any(w.state is WorkerState.READY and w.slots for w in workers)
            may_change = is_coming or bool(self._tasks)
            is_stuck = self._crew.watch.sight.is_stuck(self._crew.progress.step_s)
            # Who comes takes over what others hold: where nobody trains, it would wait in vain.
            is_training = any(worker.state is WorkerState.TRAINING for worker in workers)
            if lost and is_stuck and not (may_change and is_training):
                return f"released from {told(lost)}"
            if not may_change and is_stuck and (left := self._waited_for_in_vain(workers)):
                return f"released from {', '.join(left)}"
            if self.arrivals:
                return f"joining: {', '.join(sorted(self.arrivals))}"
            return lighthouses_missing(self._crew.plan, lost, may_change=may_change)
        asked = membership_requests(self._store, self._job)
        planned = {worker.host for worker in self._crew.plan.workers}
        leaving = [r.host for r in asked if r.kind == "leave" and r.host in planned]
        coming = sorted(self.arrivals)
        changes = {"leaving": leaving, "joining": coming}
        return "; ".join(f"{what}: {', '.join(who)}" for what, who in changes.items() if who)

    def _waited_for_in_vain(self, workers: list[WorkerRecord]) -> list[str]:
        """Who has left, where all who are there wait: they may never have heard that it was let go.
        Ranks that evaluate or save do not wait."""
        progress = self._crew.progress
        if not progress.slots <= progress.stuck.keys():
            return []
        return [worker.host for worker in workers if worker.state in _LEFT]

    # requests and returns

    def _take_up(self, workers: list[WorkerRecord]) -> None:
        """Begins what was asked and what is due, one thing for each host at a time."""
        planned = {worker.host for worker in self._crew.plan.workers}
        asked = {r.host: r.kind for r in membership_requests(self._store, self._job)}
        away = {worker.host for worker in workers if worker.state in AWAY}
        for host in [*self.arrivals]:
            if asked.get(host) != "join" and host not in self._returning:
                del self.arrivals[host]
                give_up_arrival(self._store, self._job, host, "its join was taken back")
        for host, kind in asked.items():
            if host in self._tasks or host in self.arrivals:
                continue
            if kind == "leave" and host not in planned:
                self._forget(host)
            elif kind == "leave" and self._crew.plan.is_elastic:
                self._begin(host, self._let_go(host))
            elif kind == "join" and host not in planned:
                self._begin(host, self._admit(host))
            elif kind == "join":
                settle(self._store, self._job, "join", host)
                if host in away:
                    self._begin(host, self._launch_again(host))
        for worker in workers:
            host = worker.host
            if host in self._tasks or host in self.arrivals or host in asked:
                continue
            if is_hopeless(worker):
                reason = quarantine_reason(worker.reason)
                self._store.move_worker(self._job, host, WorkerState.QUARANTINED, reason)
            elif may_try(worker, time.time()):
                if host not in planned:
                    self._returning.add(host)
                    self._begin(host, self._admit(host))
                elif self._crew.watch.is_left(host):
                    self._begin(host, self._launch_again(host))

    def _begin(self, host: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[host] = asyncio.create_task(work)

    def _forget(self, host: str) -> None:
        """A lost worker that is asked to leave does not come back."""
        with self._store.transaction():
            settle(self._store, self._job, "leave", host)
            for state in (WorkerState.LEAVING, WorkerState.GONE):
                self._store.move_worker(self._job, host, state)

    async def _admit(self, host: str) -> None:
        """Prepares a host, while the training goes on, and lets it take part. One that cannot be
        prepared changes nothing of the run."""
        is_return = host in self._returning
        if is_return:
            begin_try(self._store, self._job, host)
        try:
            worker = await receive(self._store, self._crew, self._spec, host)
            if self._needs_another_launch(worker):
                self.arrivals[host] = worker
                return
            self._store.note_stage(self._job, f"{host} joins")
            async with self._launching:
                if not self._join_plan(worker, is_return=is_return):
                    give_up_arrival(self._store, self._job, host, "its join was taken back")
                    return
                await self._launch(worker)
        except SollolError as error:
            self._turn_away(host, error, is_return=is_return)

    def _needs_another_launch(self, worker: Worker) -> bool:
        """Whether those who train could not be told of a worker while they do, or would be where it
        does not reach them, or with too few lighthouses for so many."""
        plan, lost = self._crew.plan, self._crew.progress.lost
        if not plan.is_elastic:
            return True
        joined = replace(plan, workers=(*plan.workers, worker.planned))
        moved = with_own_addresses(joined, self._crew.inventory) != joined
        return moved or lighthouses_missing(joined, lost, may_change=False) != ""

    def _join_plan(self, worker: Worker, *, is_return: bool) -> bool:
        """Makes the host a worker of the running generation; False when it is asked for no more."""
        name, plan = worker.host.name, self._crew.plan
        with self._store.transaction():
            asked = {(r.kind, r.host) for r in membership_requests(self._store, self._job)}
            if not is_return and ("join", name) not in asked:
                return False
            slots = self._store.given_slots(self._job)
            new = with_workers(plan, [*plan.workers, worker.planned], slots)
            self._store.leases.take(self._job, resources(new))
            self._store.note_plan(self._job, new)
            self._store.note_slots(self._job, new)
            settle(self._store, self._job, "join", name)
        self._returning.discard(name)
        self._crew.follow_plan(new, [worker])
        return True

    async def _launch(self, worker: Worker) -> None:
        """Starts the agent of a worker. That an earlier one is gone from there is no news."""
        port = self._store.job(self._job).main_port
        assert port is not None  # this generation runs
        await self._crew.launch_one(worker, self._spec, port, self._secrets)
        self._crew.watch.await_again(worker.host.name)

    async def _launch_again(self, host: str) -> None:
        """Starts the agent of a lost worker of this generation again; its ranks take over what the
        others have learnt meanwhile."""
        worker = next(worker for worker in self._crew.workers if worker.host.name == host)
        try:
            begin_try(self._store, self._job, host)
            async with self._launching:
                await self._launch(worker)
                for state in (WorkerState.PROVISIONING, WorkerState.READY):
                    self._store.move_worker(self._job, host, state)
            self._store.note_stage(self._job, f"{host} is launched again")
        except SollolError as error:
            if isinstance(error, UnreachableError):
                void_try(self._store, self._job, host)
            log.warning("%s is not launched again: %s", host, error)
            self._store.note_worker(self._job, host, reason=str(error))

    def _turn_away(self, host: str, error: SollolError, *, is_return: bool) -> None:
        """Says why a host does not take part after all."""
        self._returning.discard(host)
        is_silent = isinstance(error, UnreachableError)
        if not (is_silent and is_return):
            log.warning("%s does not join: %s", host, error)
        if is_return:
            if is_silent:
                void_try(self._store, self._job, host)
            lose(self._store, self._job, host, str(error), is_there=False)
            return
        note(self._store, self._job, "notice", host=host, message=f"could not join: {error}")
        self._store.note_stage(self._job, f"{host} could not join: {error}")
        give_up_arrival(self._store, self._job, host, f"could not join: {error}")

    def _without(self, host: str) -> Plan:
        """The plan of the other workers, stored; what only this host needed is leased no more."""
        rest = tuple(w for w in self._crew.plan.workers if w.host != host)
        plan = with_workers(self._crew.plan, rest, self._store.given_slots(self._job))
        freed = set(resources(self._crew.plan)) - set(resources(plan))
        self._store.leases.give_back(self._job, freed)
        self._store.note_plan(self._job, plan)
        return plan

    def _take_out(self, host: str, plan: Plan) -> None:
        self._crew.progress.lost.pop(host, None)
        self._crew.follow_plan(plan)

    async def _let_go(self, host: str) -> None:
        """Asks the ranks of a host to leave; the others go on without them at the next step."""
        if len(self._crew.plan.workers) == 1:
            settle(self._store, self._job, "leave", host)
            message = "is the last worker and stays"
            note(self._store, self._job, "notice", host=host, message=message)
            return
        worker = next(worker for worker in self._crew.workers if worker.host.name == host)
        self._store.move_worker(self._job, host, WorkerState.LEAVING)
        is_lost = host in self._crew.progress.lost
        action: Ending = "kill" if is_lost else "leave"
        patience_s = LOST_PATIENCE_S if is_lost else LEAVE_GRACE_S
        problem = await worker.stop(action, LEAVE_GRACE_S, asyncio.Event(), patience_s)
        with self._store.transaction():
            plan = self._without(host)
            settle(self._store, self._job, "leave", host)
            self._store.move_worker(self._job, host, WorkerState.GONE, problem)
        self._take_out(host, plan)
        note(self._store, self._job, "notice", host=host, message="has left")
        self._store.note_stage(self._job, f"{host} has left")
