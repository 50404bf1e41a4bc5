"""Four jobs at once on six hosts: three run side by side, the fourth waits for one of them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sollol_tui.jobs.home import open_home
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.cluster.conftest import CHECKOUT, UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import COMMAND_S, Coordinator
from tests.cluster.lab import Lab
from tests.jobs.bench import supervisors, until, write_model, write_rows

STEPS = 60
ENV = {"SOLLOL_STUB_STEPS": str(STEPS), "SOLLOL_STUB_STEP_S": "0.1"}


@pytest.fixture
def six(payload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(payload))
    write_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", rows=10_000)
    cache = Path(os.environ.get("UV_CACHE_DIR", CHECKOUT / ".cache" / "uv"))
    with Lab.up(hosts=6, shared={cache: UV_CACHE_ON_HOSTS}) as lab:
        made = Coordinator(
            lab=lab,
            home=open_home(tmp_path / "home"),
            folder=tmp_path,
            cache_on_hosts=UV_CACHE_ON_HOSTS,
        )
        made.knows_hosts()
        made.lay_out(ENV)
        yield made
        for process in supervisors(made.home):
            process.kill()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_three_jobs_share_six_hosts_and_a_fourth_has_its_turn_after_them(six: Coordinator) -> None:
    names = ("first", "second", "third", "fourth")
    told = [submit(six, name) for name in names]
    for process in told:
        said, _ = process.communicate(timeout=2 * COMMAND_S)
        assert process.returncode == 0, said

    def states() -> list[JobState]:
        return sorted(job.state for job in six.jobs())

    most = [JobState.QUEUED, *[JobState.RUNNING] * 3]
    until(lambda: states() == most, f"three run and one waits: {states()}", 120)
    jobs = six.jobs()
    [waiting] = [job for job in jobs if job.state is JobState.QUEUED]
    assert waiting.reason.startswith("#1: waits for ")
    at_work = [host for job in jobs if job is not waiting for host in hosts_of(job)]
    assert sorted(at_work) == ["w1", "w2", "w3", "w4", "w5", "w6"]
    for job in jobs:
        six.sollol("wait", job.id, timeout_s=120)
    done = {job.id: job for job in six.jobs()}
    assert {job.state for job in done.values()} == {JobState.DONE}
    started = done[waiting.id].started_at
    assert started is not None
    assert started > min(job.ended_at or 0 for job in done.values() if job.id != waiting.id)
    for job in done.values():
        adapter = Path(job.output_dir) / "adapter_model.safetensors"
        assert adapter.read_bytes() == b"stub %d\n" % STEPS
        assert six.copies_are_equal(job.id, *[h for h in six.lab.hosts if h.name in hosts_of(job)])
    six.assert_clean()


def submit(coordinator: Coordinator, name: str) -> "subprocess.Popen[str]":
    words = ("--workers", "2", "--name", name, "--set", f"output_dir=out/{name}", "--detach")
    return coordinator.popen(*coordinator.train(*words))


def hosts_of(job: JobView) -> list[str]:
    return [worker.host for worker in job.workers if worker.slots]
