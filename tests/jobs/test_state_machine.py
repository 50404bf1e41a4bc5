"""Coordinator and workers as a machine whose messages are lost, doubled, late and out of order, and
whose supervisors die at any moment: no order of events gives a device two live agents, a job two
live generations, or an ended job a live process. Model workers under the real state."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from sollol_tui.jobs import requests
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.ingest import Ingest
from sollol_tui.jobs.leases import TakenError
from sollol_tui.jobs.planner import resources
from sollol_tui.jobs.progress import Progress
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import JobError
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import UNATTENDED, UNLEASED, JobState
from tests.jobs.samples import line, plan

HOSTS = ("w1", "w2", "w3")
MOST_JOBS = 3
EXAMPLES = int(os.environ.get("SOLLOL_STATE_EXAMPLES", "15"))  # `make soak`: 2000
INVENTORY = Inventory(file="inventory.yaml", hosts=tuple(Host(name=name) for name in HOSTS))


@dataclass
class Agent:
    """A run directory with its agent, by the rules of remote/agent.py."""

    host: str
    job: str
    generation: int = 0  # the newest that was seen here
    is_alive: bool = False
    is_done: bool = False
    attempt: int = 0
    events: bytes = b""

    def say(self, kind: str, slot: int | None, generation: int) -> None:
        said = {"job": self.job, "host": self.host, "generation": generation}
        self.events += line(kind, slot, attempt=self.attempt, **said)


@dataclass(frozen=True)
class Start:
    """A launch on its way to a host; `asker` is the supervisor that hears the answer."""

    job: str
    host: str
    generation: int
    asker: int


@dataclass
class Supervisor:
    """What a supervisor knows that is lost with it."""

    number: int
    asked: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    clean: set[str] = field(default_factory=set)


class Cluster(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.store = self._open()
        self.agents: dict[tuple[str, str], Agent] = {}
        self.devices: dict[str, str] = {}  # the lease on each host, which its agent holds
        self.wire: list[Start] = []
        self.supervisors: dict[str, Supervisor] = {}
        self.born = self.submitted = 0

    def _open(self) -> Store:
        store = Store(open_home(Path(self._folder.name)))
        store.connection.execute("PRAGMA synchronous = OFF")  # nothing here outlives the test
        return store

    def teardown(self) -> None:
        self.store.close()
        self._folder.cleanup()

    # people

    @precondition(lambda self: self.submitted < MOST_JOBS)
    @rule(target=jobs, hosts=st.sets(st.sampled_from(HOSTS), min_size=1))
    def submit(self, hosts: set[str]) -> str:
        wanted = plan(*sorted(hosts))
        self.submitted += 1
        return self.store.add_job(
            spec=JobSpec(model="m", dataset="rows.jsonl", workers=",".join(sorted(hosts))),
            plan=wanted,
            inventory=INVENTORY,
            model="m",
            dataset="rows.jsonl",
            name="tiny",
            output_dir=lambda job: f"out/{job}",
            claims=resources(wanted),
        )

    @rule(job=jobs, what=st.sampled_from(["cancel", "cancel now", "pause", "resume"]))
    def ask(self, job: str, what: str) -> None:
        with suppress(JobError):  # it is not the time for that
            match what:
                case "pause":
                    requests.ask_to_pause(self.store, job)
                case "resume":
                    requests.resume(self.store, job, INVENTORY, None)
                case _:
                    requests.ask_to_cancel(self.store, job, now=what == "cancel now")

    # supervisors

    def revive(self, job: str) -> None:
        """Any command does. The lock lets one in."""
        if self.store.job(job).state not in UNATTENDED and job not in self.supervisors:
            self.born += 1
            self.supervisors[job] = Supervisor(self.born)

    @rule(job=jobs, times=st.integers(1, 8))
    def supervise(self, job: str, times: int) -> None:
        """The job's supervisor does its next things, and may die before any other."""
        self.revive(job)
        for _ in range(times):
            self._supervise(job)

    def _supervise(self, job: str) -> None:
        if (mine := self.supervisors.get(job)) is None:
            return
        record, asked = self.store.job(job), set(self.store.open_requests(job))
        if record.state in UNATTENDED:
            del self.supervisors[job]
            return
        match record.state:
            case JobState.QUEUED:
                spec = load(JobSpec, record.spec)
                with suppress(TakenError):
                    hosts = record.same_hosts or tuple(spec.workers.split(","))
                    take_turn(self.store, job, plan(*hosts))
                return
            case JobState.STOPPING:
                self._leave(job, mine, JobState.CANCELLED)
                return
            case JobState.PAUSING:
                self._leave(job, mine, JobState.PAUSED)
                return
        if {"cancel", "kill"} & asked and not self._is_launching(job, mine):
            self.store.move_job(job, JobState.STOPPING)
        elif "pause" in asked and record.state is not JobState.FINISHING:
            if not self._is_launching(job, mine):
                self.store.move_job(job, JobState.PAUSING)
        elif record.state is JobState.PLANNING:
            self.store.move_job(job, JobState.PROVISIONING)
        elif record.state is JobState.PROVISIONING:
            self.store.move_job(job, JobState.STARTING)
        elif record.state is JobState.STARTING:
            self._launch(job, mine)
        elif record.state is JobState.RUNNING:
            if all(self._agent(job, host).is_done for host in self._hosts(job)):
                self.store.move_job(job, JobState.FINISHING)
        elif record.state is JobState.FINISHING:
            self._leave(job, mine, JobState.DONE)

    def _launch(self, job: str, mine: Supervisor) -> None:
        record = self.store.job(job)
        if record.main_port is None:
            with self.store.transaction():
                self.store.leases.take(job, [f"port {job}"])
                self.store.note_launch(job, generation=record.generation + 1, main_port=29500)
                self.store.note_slots(job, load(Plan, record.plan))
            return
        for host in self._hosts(job) - mine.asked:
            mine.asked.add(host)
            self.wire.append(Start(job, host, record.generation, mine.number))
        if mine.answered >= self._hosts(job):
            self.store.move_job(job, JobState.RUNNING)

    def _is_launching(self, job: str, mine: Supervisor) -> bool:
        """A start that is under way is waited for by whoever asked."""
        return any(s.job == job and s.asker == mine.number for s in self.wire)

    def _leave(self, job: str, mine: Supervisor, then: JobState) -> None:
        """One host at a time is made clean and looked at; the state follows when all are."""
        if left := sorted(self._hosts(job) - mine.clean):
            agent = self._agent(job, left[0])
            self._end(agent)
            mine.clean.add(left[0])
        else:
            self.store.move_job(job, then)
            del self.supervisors[job]

    # the wire and the hosts

    @rule(data=st.data(), fate=st.sampled_from(["arrives"] * 4 + ["arrives twice", "is lost"]))
    def deliver(self, data: st.DataObject, fate: str) -> None:
        """Any message that is under way, whatever was sent before it. One whose answer is lost, as
        one that is lost itself, is sent again by whoever asked."""
        if not self.wire:
            return
        number = data.draw(st.integers(0, len(self.wire) - 1))
        if fate == "arrives twice":
            self._arrive(self.wire[number], is_heard=False)
            return
        start = self.wire.pop(number)
        if fate == "arrives":
            self._arrive(start)
        elif asker := self._asker(start):
            asker.asked.discard(start.host)

    def _arrive(self, start: Start, *, is_heard: bool = True) -> None:
        asker = self._asker(start)
        agent = self._agent(start.job, start.host)
        if agent.is_alive:
            is_started = agent.generation == start.generation  # adopted, or refused
        elif agent.is_done and agent.generation == start.generation:
            is_started = True
        else:
            is_started = (
                start.generation >= agent.generation
                and asker is not None  # a start that nobody hears starts nothing
                and self.devices.get(start.host, start.job) == start.job
            )
            if is_started:
                self.devices[start.host] = start.job
                agent.generation, agent.is_alive, agent.is_done = start.generation, True, False
                agent.attempt += 1
                agent.say("ready", self._slot(start.job, start.host), start.generation)
        if asker and is_heard and is_started:
            asker.answered.add(start.host)

    @rule(job=jobs, host=st.sampled_from(HOSTS))
    def finish(self, job: str, host: str) -> None:
        """The ranks of a host come to their end, and its agent with them."""
        agent = self._agent(job, host)
        if agent.is_alive:
            agent.say("finished", self._slot(job, host), agent.generation)
            agent.is_done = True
            self._end(agent)

    @rule(job=jobs)
    def follow(self, job: str) -> None:
        """A supervisor, the first or one that took over, reads what is there, from the beginning
        and again; late lines of an earlier launch are among it."""
        if self.store.job(job).generation == 0:
            return
        record = self.store.job(job)
        progress = Progress(plan=load(Plan, record.plan), generation=record.generation)
        ingest = Ingest(self.store, job, INVENTORY.file, progress)
        for host in HOSTS:
            agent = self._agent(job, host)
            copy = Path(self._folder.name) / f"{job}.{host}"
            copy.write_bytes(agent.events)
            ingest.read(host, "events.0.1.jsonl", copy)
        ingest.store()
        ready = {e.slot for e in progress.ready.values()}
        told = {
            self._slot(job, host)
            for host in self._hosts(job)
            if self._agent(job, host).generation == record.generation
        }
        assert ready <= told  # nobody is ready by the word of an earlier generation
        stored = len(read_events(self.store, job, ["ready", "finished"]))
        assert stored == sum(self._agent(job, host).events.count(b"\n") for host in HOSTS)

    @rule(job=jobs, is_all=st.booleans())
    def crash(self, job: str, is_all: bool) -> None:
        """A supervisor is killed, or all the coordinator ran; messages may still arrive."""
        self.supervisors.pop(job, None)
        if is_all:
            self.store.close()
            self.supervisors.clear()
            self.store = self._open()

    # parts

    def _agent(self, job: str, host: str) -> Agent:
        return self.agents.setdefault((job, host), Agent(host, job))

    def _asker(self, start: Start) -> Supervisor | None:
        mine = self.supervisors.get(start.job)
        return mine if mine and mine.number == start.asker else None

    def _hosts(self, job: str) -> set[str]:
        return {worker.host for worker in load(Plan, self.store.job(job).plan).workers}

    def _slot(self, job: str, host: str) -> int | None:
        workers = load(Plan, self.store.job(job).plan).workers
        return next((w.ranks[0].slot for w in workers if w.host == host), None)

    def _end(self, agent: Agent) -> None:
        agent.is_alive = False
        if self.devices.get(agent.host) == agent.job:
            del self.devices[agent.host]

    def _living(self) -> Iterable[Agent]:
        return (agent for agent in self.agents.values() if agent.is_alive)

    # what must hold

    @invariant()
    def a_host_has_one_live_agent_and_it_holds_the_lease(self) -> None:
        hosts = [agent.host for agent in self._living()]
        assert len(hosts) == len(set(hosts))
        held = self.store.leases.held()
        for agent in self._living():
            assert held[f"host {agent.host}"] == agent.job == self.devices[agent.host]

    @invariant()
    def a_job_has_one_live_generation_the_newest(self) -> None:
        for agent in self._living():
            assert agent.generation == self.store.job(agent.job).generation

    @invariant()
    def nothing_lives_of_a_job_that_rests_or_has_ended(self) -> None:
        for agent in self._living():
            assert self.store.job(agent.job).state not in UNLEASED


TestCluster = Cluster.TestCase
TestCluster.pytestmark = [pytest.mark.timeout(300 + EXAMPLES)]
TestCluster.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_a_start_that_arrives_after_its_job_was_cancelled_starts_nothing() -> None:
    cluster = Cluster()
    job = cluster.submit({"w1"})
    cluster.supervise(job, 5)
    [start] = cluster.wire
    cluster.crash(job, is_all=False)
    cluster.ask(job, "cancel now")
    cluster.supervise(job, 4)
    assert cluster.store.job(job).state is JobState.CANCELLED
    cluster._arrive(start)
    cluster.nothing_lives_of_a_job_that_rests_or_has_ended()
    cluster.teardown()
