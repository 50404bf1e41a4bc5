"""All hosts of a job are lost, some for good: it goes on with those that are seen again."""

import pytest

from sollol_tui.model.states import JobState
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.jobs.bench import until

pytestmark = [pytest.mark.keep_workdir, pytest.mark.timeout(300)]
LONG = {"SOLLOL_STUB_STEPS": "100000", "SOLLOL_STUB_STEP_S": "0.1"}
PATIENCE_S = 120.0


def test_a_host_that_restarted_does_not_wait_for_one_without_power(
    coordinator: Coordinator, lab: Lab
) -> None:
    first, second, _ = lab.hosts
    coordinator.lay_out(LONG)
    settings = ("--set", "save_steps=5")
    coordinator.sollol(*coordinator.train("--workers", "w1,w2", "--detach", *settings))
    job = coordinator.job_reaches(JobState.RUNNING).id
    coordinator.sollol("wait", job, "--for", "step=6")
    second.power_off()
    first.crash()
    first.boot()

    def trains() -> dict[str, str]:
        seen = coordinator.jobs()[0]
        assert not seen.state.is_terminal, coordinator.supervisor_log(job)
        states = {worker.host: worker.state for worker in seen.workers}
        return states if (seen.state, seen.world_size) == (JobState.RUNNING, 1) else {}

    alone = until(trains, "w1 trains alone", PATIENCE_S)
    assert alone == {"w1": "training", "w2": "lost"}
    notices = [said.data["message"] for said in coordinator.client().events(job, "notice")]
    resumed = [int(text.rpartition("-")[2]) for text in notices if "continuing from" in text]
    assert resumed
    assert min(resumed) >= 5
    coordinator.sollol("cancel", job, timeout_s=PATIENCE_S)
    coordinator.assert_clean()
