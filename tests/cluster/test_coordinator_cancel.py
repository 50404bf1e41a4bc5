"""A job that is cancelled, whatever it does at that moment, leaves nothing on its hosts."""

import pytest

from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.cluster.traces import traces
from tests.jobs.bench import until

pytestmark = [pytest.mark.keep_workdir, pytest.mark.timeout(300)]
LONG = {"SOLLOL_STUB_STEPS": "100000", "SOLLOL_STUB_STRAYS": "1"}
MUTE = {**LONG, "SOLLOL_STUB_FAIL": "mute", "SOLLOL_STUB_DEAF": "1"}


def cancel(coordinator: Coordinator, lab: Lab, job: str, *options: str) -> None:
    coordinator.sollol("cancel", job, *options, timeout_s=120)
    assert coordinator.job_reaches(JobState.CANCELLED).reason == ""
    assert {host.name: traces(host) for host in lab.hosts} == {"w1": [], "w2": [], "w3": []}
    with Store(coordinator.home) as store:
        assert store.leases.held() == {}


def test_a_job_cancelled_while_it_runs_leaves_nothing(coordinator: Coordinator, lab: Lab) -> None:
    coordinator.lay_out(LONG)
    coordinator.sollol(*coordinator.train("--workers", "w1,w2,w3", "--detach"))
    running = coordinator.job_reaches(JobState.RUNNING).id
    until(lambda: all(traces(host) for host in lab.hosts), "there is something to leave")
    cancel(coordinator, lab, running, "--now")


@pytest.mark.long
def test_a_job_cancelled_while_it_is_prepared_and_while_it_starts_leaves_nothing(
    coordinator: Coordinator, lab: Lab
) -> None:
    train = coordinator.train("--workers", "w1,w2,w3", "--detach")
    coordinator.lay_out(LONG)
    coordinator.sollol(*train)
    cancel(coordinator, lab, coordinator.jobs()[0].id)

    coordinator.lay_out(MUTE)
    coordinator.sollol(*train)
    loading = coordinator.job_reaches(JobState.STARTING).id
    until(lambda: all(map(has_rank, lab.hosts)), "ranks load on every host")
    cancel(coordinator, lab, loading)


def has_rank(host: Machine) -> bool:
    return any("remote.train" in said for said in traces(host))
