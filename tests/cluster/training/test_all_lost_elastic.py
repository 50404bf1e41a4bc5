"""Real elastic ranks, all of whose hosts lose power: the job waits, goes on from the newest
checkpoint with the one that is back, and takes the other in again."""

import re
from pathlib import Path

import pytest

from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.cluster.lab import Lab
from tests.cluster.training.elastic_job import ElasticJob, recording_coordinator
from tests.cluster.training.environment import needs_worker_python

PATIENCE_S = 420.0


@needs_worker_python
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_an_elastic_job_whose_hosts_all_lost_power_goes_on_as_they_come_back(
    lab: Lab, tmp_path: Path
) -> None:
    first, second, _ = lab.hosts
    with recording_coordinator(lab, tmp_path, step_s=0.1) as coordinator:
        job = ElasticJob.submit(coordinator, "w1", "w2", save_steps=5)
        job.shared_by([0, 1], since=0.0, steps=10, timeout_s=PATIENCE_S)
        for host in (first, second):
            host.power_off()
        job.until(lambda: all(w.unseen_since for w in job.view.workers), "nobody is seen", 60)
        assert job.view.state is JobState.RUNNING  # it may be this machine's own network
        told = "none of its workers is in sight: "
        job.until(lambda: told in coordinator.sollol("show", job.id), "it is told", 60)
        first.boot()

        def trains(*hosts: str) -> JobView | None:
            seen = job.view
            assert not seen.state.is_terminal, coordinator.supervisor_log(job.id)
            there = {worker.host for worker in seen.workers if worker.state == "training"}
            is_so = seen.state is JobState.RUNNING and there == set(hosts)
            return seen if is_so and seen.world_size == len(hosts) else None

        job.until(lambda: trains("w1"), "w1 trains alone", PATIENCE_S)
        notices = [said.data["message"] for said in coordinator.client().events(job.id, "notice")]
        resumed = re.findall(r"continuing from checkpoint-(\d+)", "\n".join(notices))
        assert resumed
        assert min(map(int, resumed)) >= 5
        second.boot()
        job.until(lambda: trains("w1", "w2"), "both train", PATIENCE_S)
        coordinator.sollol("cancel", job.id, "--now", timeout_s=PATIENCE_S)
        coordinator.assert_clean()
