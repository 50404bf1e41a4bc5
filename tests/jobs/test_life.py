"""Whatever people ask and whatever dies, in any order: a device has one live lease, a job one live
launch, and what ended or rests holds nothing. The state alone, without processes."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from sollol_tui.jobs import requests
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.leases import TakenError
from sollol_tui.jobs.planner import any_device, resources
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import JobError
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import UNLEASED, JobState
from tests.jobs.samples import plan

HOSTS = ("w1", "w2", "w3")
INVENTORY = Inventory(file="inventory.yaml", hosts=tuple(Host(name=name) for name in HOSTS))
# What a supervisor does next by itself; it may die before any of these and be replaced.
WAY = {
    JobState.PLANNING: JobState.PROVISIONING,
    JobState.PROVISIONING: JobState.STARTING,
    JobState.STARTING: JobState.RUNNING,
    JobState.RUNNING: JobState.FINISHING,
    JobState.FINISHING: JobState.DONE,
    JobState.STOPPING: JobState.CANCELLED,
}


class Life(RuleBasedStateMachine):
    """Several jobs on three hosts. `agents` are the launches that live on the hosts: they end only
    when a supervisor ends them."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.store = Store(open_home(Path(self._folder.name)))
        self.agents: dict[str, set[tuple[str, int]]] = {}
        self.generations: dict[str, int] = {}

    def teardown(self) -> None:
        self.store.close()
        self._folder.cleanup()

    @rule(target=jobs, hosts=st.sets(st.sampled_from(HOSTS), min_size=1))
    def submit(self, hosts: set[str]) -> str:
        wanted = plan(*sorted(hosts))
        job = self.store.add_job(
            spec=JobSpec(model="m", dataset="rows.jsonl", workers=",".join(sorted(hosts))),
            plan=wanted,
            inventory=INVENTORY,
            model="m",
            dataset="rows.jsonl",
            name="tiny",
            output_dir=lambda job: f"out/{job}",
            claims=resources(wanted),
        )
        self.agents[job] = set()
        self.generations[job] = 0
        self._take_turn(job)
        return job

    def _take_turn(self, job: str) -> None:
        record = self.store.job(job)
        spec = load(JobSpec, record.spec)
        wanted = plan(*(record.same_hosts or spec.workers.split(",")))
        ahead = self.store.leases.taken_from(job).claimed
        try:
            take_turn(self.store, job, wanted)
        except TakenError:
            return
        needed = {*resources(wanted), *(any_device(w.host) for w in wanted.workers)}
        assert not needed & ahead.keys()  # nobody was overtaken

    @rule(job=jobs)
    def supervise(self, job: str) -> None:
        """The supervisor, the first or one that took over, does one thing."""
        record = self.store.job(job)
        asked = self.store.open_requests(job)
        if record.state is JobState.QUEUED:
            self._take_turn(job)
        elif record.state in UNLEASED:
            return
        elif {"cancel", "kill"} & set(asked) and record.state is not JobState.STOPPING:
            self.store.move_job(job, JobState.STOPPING)
        elif record.state is JobState.STOPPING:
            self.agents[job].clear()
            self.store.move_job(job, JobState.CANCELLED)
        elif record.state is JobState.PAUSING:
            self.agents[job].clear()
            self.store.move_job(job, JobState.PAUSED)
        elif "pause" in asked and record.state is not JobState.FINISHING:
            self.store.move_job(job, JobState.PAUSING)
        elif record.state is JobState.STARTING and record.main_port is None:
            self.store.leases.take(job, [f"port {job}"])
            generation = record.generation + 1
            self.store.note_launch(job, generation=generation, main_port=29500)
            self.store.note_slots(job, load(Plan, record.plan))
        else:
            if record.state is JobState.STARTING:
                hosts = [worker.host for worker in load(Plan, record.plan).workers]
                self.agents[job] |= {(host, record.generation) for host in hosts}
            if record.state is JobState.FINISHING:
                self.agents[job].clear()
            self.store.move_job(job, WAY[record.state])

    @rule(job=jobs)
    def fail(self, job: str) -> None:
        if self.store.job(job).state not in UNLEASED:
            self.agents[job].clear()
            self.store.move_job(job, JobState.FAILED, "why")

    @rule(job=jobs)
    def pause(self, job: str) -> None:
        with suppress(JobError):  # it has ended
            requests.ask_to_pause(self.store, job)

    @rule(job=jobs, now=st.booleans())
    def cancel(self, job: str, now: bool) -> None:
        with suppress(JobError):
            requests.ask_to_cancel(self.store, job, now=now)

    @rule(job=jobs, workers=st.none() | st.sampled_from(["w1", "w2,w3"]))
    def resume(self, job: str, workers: str | None) -> None:
        with suppress(JobError):  # it is not paused
            requests.resume(self.store, job, INVENTORY, workers)

    @rule()
    def reboot(self) -> None:
        """Every process of the coordinator dies; the next one opens the state again."""
        home = self.store.home
        self.store.close()
        self.store = Store(home)

    @invariant()
    def a_job_holds_leases_exactly_while_it_may_run(self) -> None:
        held = self.store.leases.held()
        for job in self.agents:
            record = self.store.job(job)
            mine = {name for name, holder in held.items() if holder == job}
            if record.state in UNLEASED:
                assert mine == set()
                assert record.main_port is None
            else:
                assert mine >= set(resources(load(Plan, record.plan)))

    @invariant()
    def a_host_has_one_live_launch_and_a_job_one_live_generation(self) -> None:
        hosts = [host for agents in self.agents.values() for host, _ in agents]
        assert len(hosts) == len(set(hosts))
        for job, agents in self.agents.items():
            assert len({generation for _, generation in agents}) <= 1
            assert not (agents and self.store.job(job).state in UNLEASED)

    @invariant()
    def generations_only_grow_and_slots_are_given_once(self) -> None:
        for job, known in self.generations.items():
            assert self.store.job(job).generation >= known
            self.generations[job] = self.store.job(job).generation
            slots = self.store.given_slots(job)
            assert len(set(slots.values())) == len(slots)

    @invariant()
    def only_the_queue_claims_and_an_end_answers_every_request(self) -> None:
        rows = self.store.connection.execute("SELECT DISTINCT job FROM claims")
        assert all(self.store.job(row["job"]).state is JobState.QUEUED for row in rows)
        for job in self.agents:
            if self.store.job(job).state.is_terminal:
                assert self.store.open_requests(job) == []


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
