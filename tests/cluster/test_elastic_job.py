"""A whole job with `engine: elastic`: real ranks on OpenSSH hosts, and the one that speaks for the
job loses everything that runs there."""

import json
import os
from pathlib import Path

import pytest

from sollol_tui.jobs.home import open_home
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.cluster.conftest import CHECKOUT, UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import Coordinator, fill_cache
from tests.cluster.lab import Lab
from tests.cluster.test_training import LOADS, WORKER_PYTHON, worker_python
from tests.jobs.bench import until

STEPS = 300
SETTINGS = {
    "engine": "elastic", "max_length": 64, "batch_size": 8, "global_batch": 12, "lr": 5e-3,
    "lora.r": 8, "schedule": "constant", "wire": "fp32", "epochs": 15,
}  # fmt: skip


@pytest.mark.skipif(
    not WORKER_PYTHON.exists() and os.environ.get("SOLLOL_REQUIRE_CLUSTER") != "1",
    reason="make test makes .venv-worker",
)
@pytest.mark.timeout(300)
def test_a_job_goes_on_and_brings_its_adapter_though_its_first_worker_is_lost(
    lab: Lab, tmp_path: Path
) -> None:
    fill_cache(CHECKOUT, tmp_path / "cache")
    coordinator = Coordinator(
        lab=lab,
        home=open_home(tmp_path / "home"),
        folder=tmp_path,
        cache_on_hosts=UV_CACHE_ON_HOSTS,
    )
    coordinator.knows_hosts()
    coordinator.lay_out({"HF_HUB_OFFLINE": "1"})
    worker_python("-m", "remote.tiny", str(tmp_path / "model"))
    rows = [
        {"instruction": f"say {number}", "output": f"{number % 7} " * 3} for number in range(240)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    flags = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    coordinator.sollol(*coordinator.train("--workers", "3", "--name", "tiny", "--detach", *flags))
    first = lab.hosts[0]

    def job() -> JobView:
        return coordinator.jobs()[0]

    until(lambda: job().step >= 3, "three steps", 150)
    pids = [str(process.pid) for process in first.processes()]
    first.run(["kill", "-9", *pids])
    until(lambda: job().workers[0].state == "lost", "the worker is told to be lost")
    seen = job()
    assert seen.state is JobState.RUNNING
    assert "its agent is gone" in seen.workers[0].reason
    until(lambda: job().workers[0].state == "training", "the worker is launched again", 150)
    coordinator.sollol("wait", seen.id, timeout_s=120)
    done = job()
    assert (done.state, done.step, done.samples_done) == (JobState.DONE, STEPS, 240 * 15)
    ranks = sorted(path.name for path in coordinator.run_dir(done.id, first).glob("log.0.*"))
    assert ranks == ["log.0.1", "log.0.2"]
    rank, trained = worker_python("-c", LOADS, str(tmp_path / "model"), done.output_dir).split()
    assert rank == "8"
    assert int(trained) > 0
    state = json.loads((Path(done.output_dir) / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"]] == [*range(1, STEPS + 1)]
    coordinator.assert_clean()
