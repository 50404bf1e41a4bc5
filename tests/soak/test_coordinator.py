"""Jobs on OpenSSH hosts whose coordinator is killed or cut off, for long or again and again, and
cancels at random moments. Run as root: make soak"""

import random

import pytest

pytest.importorskip("asyncssh", reason="runs in the coordinator's environment")

from sollol_tui.model.states import JobState
from tests.cluster.conftest import _machines, coordinator, lab, lab_is_possible, payload
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.cluster.test_coordinator_network import (
    LONG,
    assert_nothing_is_missing_or_doubled,
    submit,
    until_moment,
    view,
)
from tests.cluster.traces import traces
from tests.jobs.bench import until
from tests.soak.test_random_moments import chance

__all__ = ["_machines", "chance", "coordinator", "lab", "lab_is_possible", "payload"]
pytestmark = pytest.mark.timeout(1800)
KILLS = 10
CANCELS = 30
LONGEST_S = 8.0  # a job trains within that
AWAY_S = 120.0


def test_two_minutes_without_a_network_cost_no_step(coordinator: Coordinator, lab: Lab) -> None:
    job = submit(coordinator, LONG)
    log = coordinator.run_dir(job, lab.hosts[0]) / "log.0.1"

    def steps_within(seconds: float) -> int:
        before = log.read_text().count("\n")
        until_moment(seconds)
        return log.read_text().count("\n") - before

    until(lambda: view(coordinator).step > 3, "some steps")
    calm = steps_within(AWAY_S / 4)
    lab.cut_coordinator()
    away = steps_within(AWAY_S)
    seen = view(coordinator)
    assert seen.state is JobState.RUNNING
    assert all(worker.unseen_since for worker in seen.workers)
    lab.heal_coordinator()
    until(lambda: not any(w.unseen_since for w in view(coordinator).workers), "all are seen", 60)
    coordinator.sollol("cancel", job)
    assert_nothing_is_missing_or_doubled(coordinator, lab, job)
    numbers = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("step ")]
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))
    print(f"without a coordinator {away / (4 * calm):.2f} times as many steps as with one")
    coordinator.assert_clean()


def test_killed_again_and_again_in_all_it_does(
    coordinator: Coordinator, lab: Lab, chance: random.Random
) -> None:
    coordinator.lay_out({**LONG, "SOLLOL_STUB_STEPS": "300"})
    coordinator.sollol(*coordinator.train("--workers", "w1,w2,w3", "--detach"))
    for _ in range(KILLS):
        until_moment(chance.uniform(0.2, 5))
        coordinator.kill_supervisors()
        coordinator.sollol("status", "--cached")
    job = view(coordinator).id
    coordinator.sollol("wait", job, timeout_s=300)
    assert view(coordinator).step == 300
    assert_nothing_is_missing_or_doubled(coordinator, lab, job)
    for host in lab.hosts:
        names = sorted(path.name for path in coordinator.run_dir(job, host).glob("log.*"))
        assert [name.rpartition(".")[2] for name in names] == [
            "1",
            "1",
        ]  # nothing was started again
    coordinator.assert_clean()


def test_cancel_at_random_moments_leaves_nothing_on_three_hosts(
    coordinator: Coordinator, lab: Lab, chance: random.Random
) -> None:
    coordinator.lay_out({**LONG, "SOLLOL_STUB_STRAYS": "1"})
    found = []
    for number in range(CANCELS):
        coordinator.sollol(*coordinator.train("--workers", "w1,w2,w3", "--detach"))
        until_moment(chance.uniform(0, LONGEST_S))
        job = view(coordinator)
        found.append(job.state)
        if number % 3 == 0:
            coordinator.kill_supervisors()
        options = ("--now",) if number % 2 else ()
        coordinator.sollol("cancel", job.id, *options, timeout_s=120)
        assert coordinator.job_reaches(JobState.CANCELLED).reason == ""
        assert {host.name: traces(host) for host in lab.hosts} == {"w1": [], "w2": [], "w3": []}
    print(f"cancelled while {', '.join(sorted(set(found)))}")
