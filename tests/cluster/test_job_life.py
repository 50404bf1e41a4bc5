"""A job's life against real OpenSSH hosts: it pauses, goes on elsewhere and waits for its turn,
whenever its supervisor is killed."""

import json

import pytest

from sollol_tui.model.states import JobState
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.jobs.bench import until

pytestmark = pytest.mark.keep_workdir
SLOW = {"SOLLOL_STUB_STEPS": "60", "SOLLOL_STUB_STEP_S": "0.5"}
LONG = {"SOLLOL_STUB_STEPS": "100000", "SOLLOL_STUB_STEP_S": "0.1"}
QUICK = {"SOLLOL_STUB_STEPS": "60", "SOLLOL_STUB_STEP_S": "0.02"}
RESUMED = (JobState.STARTING, JobState.RUNNING, JobState.FINISHING, JobState.DONE)


def test_a_job_pauses_and_goes_on_elsewhere_whoever_kills_its_supervisor(
    coordinator: Coordinator, lab: Lab
) -> None:
    coordinator.lay_out(SLOW)
    coordinator.sollol(*coordinator.train("--workers", "w1,w2", "--detach"))
    job = coordinator.job_reaches(JobState.RUNNING).id
    assert "at step" in coordinator.sollol("wait", job, "--for", "step=2")
    coordinator.sollol("pause", job, "--detach")
    coordinator.job_reaches(JobState.PAUSING, JobState.PAUSED)
    coordinator.kill_supervisors()
    said = coordinator.sollol("wait", job, "--for", "paused")
    paused = coordinator.job_reaches(JobState.PAUSED)
    assert said == f"{job} is paused at step {paused.step}\n"
    coordinator.assert_clean()
    kept = coordinator.home.job(job) / "checkpoints" / f"checkpoint-{paused.step}"
    assert (kept / "adapter_model.safetensors").read_bytes() == b"stub %d\n" % paused.step

    coordinator.lay_out(QUICK)
    coordinator.sollol("resume", job, "--workers", "w2,w3")
    coordinator.job_reaches(*RESUMED)
    coordinator.kill_supervisors()
    coordinator.sollol("status", "--cached")
    done = coordinator.job_reaches(JobState.DONE)
    assert (done.step, done.samples_done) == (60, 960)
    # w2 had its slot before, w3 gets a new one, and each host was launched once in a generation.
    assert {w.host: w.slots for w in done.workers} == {"w1": (), "w2": (1,), "w3": (2,)}
    launches = [len(list(coordinator.run_dir(job, h).glob("log.agent.*"))) for h in lab.hosts]
    assert launches == [1, 2, 1]
    told = []
    for host in lab.hosts:
        for path in coordinator.run_dir(job, host).glob("events.[0-9]*"):
            events = map(json.loads, path.read_text().splitlines())
            told += [event["step"] for event in events if event["kind"] == "step"]
    assert sorted(told) == list(range(1, 61))  # none is missing, none was done twice
    coordinator.assert_clean()


def test_a_job_waits_for_its_host_and_then_runs(coordinator: Coordinator, lab: Lab) -> None:
    coordinator.lay_out(LONG)
    coordinator.sollol(*coordinator.train("--workers", "w1", "--detach"))
    first = coordinator.job_reaches(JobState.RUNNING).id
    refused = coordinator.sollol(*coordinator.train("--workers", "w1", "--no-queue"), expect=7)
    assert f"w1: in use by {first}" in refused
    coordinator.lay_out(QUICK)
    said = coordinator.sollol(*coordinator.train("--workers", "w1", "--detach"))
    assert f": #1: waits for w1 ({first})" in said
    second = coordinator.job_reaches(JobState.QUEUED).id
    coordinator.sollol(*coordinator.train("--workers", "w2", "--set", "output_dir=beside"))
    assert [j.state for j in coordinator.jobs()] == [
        *(JobState.DONE, JobState.QUEUED, JobState.RUNNING),
    ]
    coordinator.kill_supervisors()
    coordinator.sollol("pause", first)
    coordinator.sollol("wait", second)
    until(lambda: coordinator.jobs()[1].state is JobState.DONE, "the second is done")
    coordinator.sollol("cancel", first)
    coordinator.assert_clean()
