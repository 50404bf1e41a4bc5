"""The coordinator's network goes away, or its connections break again and again, while a job runs:
no step is lost, and what it has copied afterwards is what the workers wrote, byte for byte."""

import random
import time
from collections import Counter

import psutil
import pytest

from sollol_tui.jobs.store import Store
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.jobs.bench import until

pytestmark = [pytest.mark.keep_workdir, pytest.mark.timeout(300)]
LONG = {"SOLLOL_STUB_STEPS": "100000", "SOLLOL_STUB_STEP_S": "0.1"}
STEPS = 200


def submit(coordinator: Coordinator, env: dict[str, str], workers: str = "w1,w2,w3") -> str:
    coordinator.lay_out(env)
    coordinator.sollol(*coordinator.train("--workers", workers, "--detach"))
    return coordinator.job_reaches(JobState.RUNNING, JobState.FINISHING, JobState.DONE).id


def view(coordinator: Coordinator) -> JobView:
    return coordinator.jobs()[0]


def assert_nothing_is_missing_or_doubled(coordinator: Coordinator, lab: Lab, job: str) -> None:
    assert coordinator.copies_are_equal(job, *lab.hosts)
    with Store(coordinator.home) as store:
        rows = store.connection.execute(
            "SELECT host, file, position, kind, slot, attempt FROM events WHERE job = ?", (job,)
        ).fetchall()
        places = Counter((row["host"], row["file"], row["position"]) for row in rows)
        assert max(places.values()) == 1
        once = Counter((row["kind"], row["slot"]) for row in rows if row["kind"] == "ready")
        assert set(once.values()) == {1}
    for host in lab.hosts:
        path = coordinator.run_dir(job, host) / "events.agent.1.jsonl"
        written = [line for line in path.read_bytes().splitlines() if b"host_metrics" not in line]
        assert len(written) == sum(
            row["host"] == host.name and row["file"] == path.name for row in rows
        )


def test_a_network_that_is_gone_for_a_while_costs_no_step_and_no_byte(
    coordinator: Coordinator, lab: Lab
) -> None:
    job = submit(coordinator, LONG)
    until(lambda: view(coordinator).step > 3, "some steps")
    lab.cut_coordinator()
    until(lambda: all(w.unseen_since for w in view(coordinator).workers), "nobody is seen", 60)
    seen = view(coordinator)
    assert seen.state is JobState.RUNNING  # what is not seen is not lost
    log = coordinator.run_dir(job, lab.hosts[0]) / "log.0.1"
    lines = log.read_text().count("\n")
    until(lambda: log.read_text().count("\n") > lines + 5, "the training goes on")
    lab.heal_coordinator()
    until(lambda: not any(w.unseen_since for w in view(coordinator).workers), "all are seen", 60)
    until(lambda: view(coordinator).step > lines + 5, "what happened meanwhile is known")
    coordinator.sollol("cancel", job)
    assert_nothing_is_missing_or_doubled(coordinator, lab, job)
    told = [line for line in log.read_text().splitlines() if line.startswith("step ")]
    assert [int(line.split()[1]) for line in told] == list(range(1, len(told) + 1))
    coordinator.assert_clean()


@pytest.mark.parametrize(
    ("cuts", "lines"), [(4, 20_000), pytest.param(20, 100_000, marks=pytest.mark.long)]
)
def test_broken_connections_leave_no_gap_in_a_flood_of_lines(
    coordinator: Coordinator, lab: Lab, cuts: int, lines: int
) -> None:
    chance = random.Random(27)
    steps = {"SOLLOL_STUB_STEPS": str(STEPS), "SOLLOL_STUB_STEP_S": "0.02"}
    job = submit(coordinator, {**steps, "SOLLOL_STUB_LINES": str(lines // STEPS)})
    for _ in range(cuts):
        host = chance.choice(lab.hosts)
        until(lambda host=host: host.end_logins(), f"{host.name} is connected")
    coordinator.sollol("wait", job, timeout_s=200)
    assert_nothing_is_missing_or_doubled(coordinator, lab, job)
    for slot, host in enumerate(lab.hosts):
        copy = coordinator.home.copies(job, host.name) / f"log.{slot}.1"
        numbers = [line.split(b" ", 2)[1] for line in lines_of(copy.read_bytes())]
        assert [int(number) for number in numbers] == list(range(lines))
    coordinator.assert_clean()


def lines_of(log: bytes) -> list[bytes]:
    return [line for line in log.split(b"\n") if line.startswith(b"line ")]


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_killed_supervisors_start_nothing_again_and_disturb_no_rank(
    coordinator: Coordinator, lab: Lab, kills: int
) -> None:
    chance = random.Random(10)
    job = submit(coordinator, LONG)
    until(lambda: view(coordinator).step > 0, "a first step")
    before = {host.name: ranks(host.processes()) for host in lab.hosts}
    assert all(before.values())
    for _ in range(kills):
        until_moment(chance.uniform(0.1, 1.5))
        coordinator.kill_supervisors()
        coordinator.sollol("status", "--cached")
    step = view(coordinator).step
    until(lambda: view(coordinator).step > step, "the last one hears the workers")
    assert {host.name: ranks(host.processes()) for host in lab.hosts} == before
    coordinator.sollol("cancel", job)
    assert_nothing_is_missing_or_doubled(coordinator, lab, job)
    coordinator.assert_clean()


def ranks(processes: list[tuple[int, str]]) -> list[int]:
    """The pids of agents, launchers and ranks."""
    return [pid for pid, command in processes if "remote.stream" not in command]


def until_moment(seconds: float) -> None:
    moment = time.monotonic() + seconds
    until(lambda: time.monotonic() >= moment, "the moment has come", seconds + 30)


def test_a_supervisor_that_was_frozen_holds_nobody_for_dead(
    coordinator: Coordinator, lab: Lab
) -> None:
    """As a laptop does that sleeps."""
    from tests.jobs.bench import supervisors

    job = submit(coordinator, LONG)
    until(lambda: view(coordinator).step > 0, "a first step")
    [supervisor] = supervisors(coordinator.home)
    supervisor.suspend()
    until(lambda: supervisor.status() == psutil.STATUS_STOPPED, "it is frozen")
    log = coordinator.run_dir(job, lab.hosts[0]) / "log.0.1"
    lines = log.read_text().count("\n")
    # Longer than every keepalive, so that sshd has given it up meanwhile.
    until_moment(20)
    assert log.read_text().count("\n") > lines
    supervisor.resume()
    until(lambda: view(coordinator).step > lines, "it hears what it has missed", 60)
    assert {worker.state for worker in view(coordinator).workers} == {"training"}
    coordinator.sollol("cancel", job)
    assert_nothing_is_missing_or_doubled(coordinator, lab, job)
    coordinator.assert_clean()
