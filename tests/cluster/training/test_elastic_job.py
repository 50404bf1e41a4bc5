"""A whole job with `engine: elastic`: real ranks on OpenSSH hosts, and the one that speaks for the
job loses everything that runs there."""

import json
from pathlib import Path

import pytest

from sollol_tui.model.states import JobState
from tests.cluster.lab import Lab
from tests.cluster.training.elastic_job import ROWS, ElasticJob, recording_coordinator
from tests.cluster.training.environment import judge, needs_worker_python
from tests.jobs.bench import until

EPOCHS, GLOBAL_BATCH = 10, 10
STEPS = EPOCHS * ROWS // GLOBAL_BATCH
PATIENCE_S = 200.0


@needs_worker_python
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_job_goes_on_and_brings_its_adapter_though_its_first_worker_is_lost(
    lab: Lab, tmp_path: Path
) -> None:
    first = lab.hosts[0]
    with recording_coordinator(lab, tmp_path, step_s=2.0) as coordinator:
        job = ElasticJob.submit(
            coordinator, "w1", "w2", "w3", epochs=EPOCHS, global_batch=GLOBAL_BATCH, lr=5e-3
        )

        def ranks() -> list[str]:
            return sorted(path.name for path in job.run_dir(first).glob("log.0.*"))

        def is_told(*words: str) -> bool:
            told = coordinator.sollol("events", job.id).splitlines()
            return any(all(word in line for word in words) for line in told)

        until(lambda: job.view.step >= 3, "three steps", PATIENCE_S)
        first.run(["kill", "-9", *(str(process.pid) for process in first.processes())])
        # It may be launched again before anybody looks: its loss stands in the events.
        until(lambda: is_told("w1", "its agent is gone"), "its loss", PATIENCE_S)
        assert job.view.state is JobState.RUNNING
        until(lambda: len(ranks()) == 2, "the worker is launched again", PATIENCE_S)
        until(lambda: job.view.workers[0].state == "training", "it trains again", PATIENCE_S)
        for host in lab.hosts:
            (job.run_dir(host) / "hurry").touch()  # or the others had been at the end before it
        coordinator.sollol("wait", job.id, timeout_s=PATIENCE_S)
        done = job.view
        assert (done.state, done.step, done.samples_done) == (JobState.DONE, STEPS, EPOCHS * ROWS)
        assert ranks() == ["log.0.1", "log.0.2"]
        judged = judge(tmp_path / "model", done.output_dir)
        assert judged["rank"] == 4
        assert judged["trained"] > 0
        state = json.loads((Path(done.output_dir) / "trainer_state.json").read_text())
        assert [entry["step"] for entry in state["log_history"]] == [*range(1, STEPS + 1)]
        coordinator.assert_clean()
