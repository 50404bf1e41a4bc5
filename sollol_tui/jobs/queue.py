"""A job's place in the queue: who comes first, what is waited for, and the one transaction in which
a turn is taken. Starts nothing; whoever has his turn holds his leases."""

import asyncio
import logging
from typing import Final

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.jobs.addresses import with_own_addresses
from sollol_tui.jobs.leases import Taken, TakenError
from sollol_tui.jobs.measured import read_measured
from sollol_tui.jobs.planner import any_device, could_use, make_plan, resources
from sollol_tui.jobs.predict import Known
from sollol_tui.jobs.probe import Answers, ask, note_silence
from sollol_tui.jobs.records import JobRecord, load
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.teachers import teacher_hosts, with_teacher
from sollol_tui.jobs.weights import read_weights
from sollol_tui.model.errors import NoWorkersError
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.patterns import Selection, select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState

log = logging.getLogger("sollol.supervisor")
LOOK_AGAIN_S: Final = 30.0  # at hosts that are silent, or busy with what is not ours
_POLL_S: Final = 0.25


def take_turn(store: Store, job: str, plan: Plan) -> None:
    """Leases what the plan needs and moves a queued job on to planning, all or nothing. Raises
    TakenError when another job holds some of it, or could use it and came first."""
    needed = resources(plan)
    with store.transaction():
        if store.job(job).state is not JobState.QUEUED:
            return
        store.leases.check_turn(job, [*needed, *(any_device(w.host) for w in plan.workers)])
        store.leases.take(job, needed)
        store.note_plan(job, plan)
        store.move_job(job, JobState.PLANNING)


def selection_of(record: JobRecord, spec: JobSpec, inventory: Inventory) -> Selection:
    """The hosts that the job may have: those of its pattern, or exactly those that it had."""
    if not record.same_hosts:
        return select(inventory, spec.workers)
    hosts = tuple(inventory.host(name) for name in record.same_hosts)
    return Selection(hosts=hosts, at_most=len(hosts))


class Turn:
    """One job's wait for its workers. The hosts are asked again only when a plan looks possible, or
    after a while: a queue is no reason to keep them busy."""

    def __init__(self, store: Store, job: str) -> None:
        self._store = store
        self._job = job
        record = store.job(job)
        self._number = record.turn
        self._spec = load(JobSpec, record.spec)
        planned = load(Plan, record.plan)
        self._dataset = planned.dataset
        self._teacher = planned.teacher
        self._inventory = load(Inventory, record.inventory).with_coordinator()
        self._selection = selection_of(record, self._spec, self._inventory)
        self._teaching = teacher_hosts(self._spec, self._inventory) if self._teacher else ()
        self._known = Known(
            model=record.model,
            weights=read_weights(record.model),
            measured=read_measured(store, self._inventory),
        )
        self._answers: Answers[HostFacts] = Answers()

    async def wait(self) -> None:
        """Returns once the job has its turn, or is not queued any more."""
        clock = asyncio.get_running_loop().time
        seen: Taken | None = None
        asked_at = 0.0
        while self._is_waiting():
            version = self._store.version()  # before the look: what is freed meanwhile is news
            taken = self._store.leases.taken_from(self._job)
            due = clock() - asked_at > LOOK_AGAIN_S or not asked_at
            if (taken != seen and self._looks_possible(taken)) or due:
                self._answers = await ask(self._store.home, self._hosts, gather_facts)
                note_silence(self._store, self._inventory, self._answers)
                asked_at = clock()
                if self._try(taken):
                    return
            elif taken != seen:
                self._try(taken)  # what it waits for is another now
            seen = taken
            await self._news(version)

    def _is_waiting(self) -> bool:
        """A job that was paused and resumed waits for another turn, maybe for other hosts."""
        record = self._store.job(self._job)
        return record.state is JobState.QUEUED and record.turn == self._number

    def _looks_possible(self, taken: Taken) -> bool:
        try:
            self._plan(taken)
        except NoWorkersError:
            return False
        return True

    def _try(self, taken: Taken) -> bool:
        """Takes the turn if that can be; else says what the job waits for."""
        try:
            take_turn(self._store, self._job, self._plan(taken))
        except NoWorkersError as error:
            self._note(error.wait or _reasons(error))
        except TakenError as error:
            self._note(error.message)
        else:
            return True
        return False

    def _plan(self, taken: Taken) -> Plan:
        plan = make_plan(
            self._spec,
            self._inventory,
            self._selection,
            self._answers.said,
            self._answers.reasons() | self._unasked(),
            self._dataset,
            taken,
            self._store.given_slots(self._job),
            self._known,
        )
        plan = with_teacher(
            plan,
            self._spec,
            self._teacher,
            self._teaching,
            self._answers.said,
            self._answers.reasons(),
            taken,
        )
        return with_own_addresses(plan, self._inventory)

    @property
    def _hosts(self) -> tuple[Host, ...]:
        named = self._selection.hosts
        return (*named, *(host for host in self._teaching if host not in named))

    def _unasked(self) -> dict[str, str]:
        known = {*self._answers.said, *self._answers.errors}
        return {h.name: "not asked yet" for h in self._selection.hosts if h.name not in known}

    def _note(self, reason: str) -> None:
        claims = could_use(self._spec, self._selection, self._answers.said)
        log.info("queued: %s", reason)
        self._store.note_waiting(self._job, reason, claims)

    async def _news(self, version: int) -> None:
        """Returns when the state is not that version any more, or it is time to look again."""
        for _ in range(int(LOOK_AGAIN_S / _POLL_S)):
            await asyncio.sleep(_POLL_S)
            if self._store.version() != version:
                return


def _reasons(error: NoWorkersError) -> str:
    told = [f"{host} ({reason})" for host, reason in error.reasons.items()]
    return f"waits for {', '.join(told[:3])}" if told else error.message
