"""Pause and resume over embedded hosts: nothing is left, nothing is lost, nothing is done twice."""

import json
import shutil
from typing import Any

import pytest

from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import is_supervised
from sollol_tui.model.errors import JobError, NotFoundError
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, until

LONG = {"SOLLOL_STUB_STEPS": "100000"}
SLOW = {"SOLLOL_STUB_STEPS": "40", "SOLLOL_STUB_STEP_S": "0.5"}  # it cannot end before it is paused
QUICK = {"SOLLOL_STUB_STEPS": "40", "SOLLOL_STUB_STEP_S": "0.01"}


def pause(bench: Bench, job: str) -> JobView:
    bench.client.pause_job(job)
    view = bench.reaches(job, JobState.PAUSED)
    assert bench.left(job) == []
    with Store(bench.home) as store:
        assert job not in store.leases.held().values()
    until(lambda: not is_supervised(bench.home, job), "its supervisor leaves")
    return view


def steps(bench: Bench, job: str, host: str) -> list[tuple[int, int]]:
    """Generation and number of each step that the rank 0 of a host has told."""
    found = []
    for path in sorted(bench.run_dir(job, host).glob("events.*.jsonl")):
        for line in path.read_text().splitlines():
            event: dict[str, Any] = json.loads(line)
            if event["kind"] == "step":
                found.append((event["generation"], event["step"]))
    return found


def test_a_paused_job_leaves_its_hosts_and_goes_on_at_the_next_step_also_if_a_copy_is_damaged(
    bench: Bench,
) -> None:
    job = bench.submit(env=SLOW)
    bench.takes_steps(job)
    paused = pause(bench, job)
    stopped = paused.step
    assert (paused.reason, paused.eta_s) == (f"at step {stopped}", None)
    kept = bench.home.job(job) / "checkpoints" / f"checkpoint-{stopped}"
    assert (kept / "adapter_model.safetensors").read_bytes() == b"stub %d\n" % stopped
    assert [host.job for host in bench.client.snapshot().hosts] == [None, None]
    bench.client.revive()
    assert not is_supervised(bench.home, job)

    # A damaged checkpoint on a worker is replaced before the ranks look.
    folder = bench.run_dir(job, "two") / "checkpoints" / f"checkpoint-{stopped}"
    (folder / "adapter_model.safetensors").write_bytes(b"rotten\n")
    shutil.rmtree(bench.run_dir(job, "one") / "checkpoints")
    bench.lay_out(QUICK, {})
    bench.client.resume_job(job)
    view = bench.reaches(job, JobState.DONE)
    assert (view.step, view.max_steps, view.samples_done) == (40, 40, 640)
    assert view.first_loss == pytest.approx(4.0 / 1.1)  # of the job, not of its second launch
    told = steps(bench, job, "one")
    assert [step for _, step in told] == list(range(1, 41))
    assert {gen for gen, step in told if step <= stopped} == {1}
    assert {gen for gen, step in told if step > stopped} == {2}
    assert bench.copies_are_equal(job)
    assert bench.left(job) == []


def test_a_job_goes_on_with_other_and_fewer_workers(bench: Bench) -> None:
    job = bench.submit(env=SLOW, workers="one")
    bench.takes_steps(job)
    stopped = pause(bench, job).step
    bench.client.resume_job(job, workers="one,two")
    bench.reaches(job, JobState.RUNNING)
    again = pause(bench, job)
    assert again.step >= stopped
    bench.lay_out(QUICK, {})
    bench.client.resume_job(job, workers="two")
    view = bench.reaches(job, JobState.DONE)
    assert [(w.host, w.slots) for w in view.workers] == [("two", (1,)), ("one", ())]
    assert [step for _, step in steps(bench, job, "one")] == list(range(1, again.step + 1))
    told = steps(bench, job, "two")  # slot 1 is the only rank now, and speaks for the job
    assert told == [(3, step) for step in range(again.step + 1, 41)]


def test_a_job_that_is_paused_before_its_first_step_begins_later(bench: Bench) -> None:
    job = bench.submit(env={**LONG, "SOLLOL_STUB_FAIL": "mute"})
    bench.reaches(job, JobState.STARTING)
    until(lambda: [said for said in bench.left(job) if "remote.train" in said], "a rank loads")
    assert pause(bench, job).reason == "before its first step"
    assert not (bench.home.job(job) / "checkpoints").exists()
    bench.lay_out({"SOLLOL_STUB_STEPS": "5"}, {})
    bench.client.resume_job(job)
    assert bench.reaches(job, JobState.DONE).step == 5


def test_a_paused_job_can_be_cancelled_at_once_and_no_ended_job_is_paused(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.takes_steps(job)
    with pytest.raises(JobError, match=f"{job} is running, not paused"):
        bench.client.resume_job(job)
    pause(bench, job)
    bench.client.pause_job(job)  # the same asked twice
    with pytest.raises(NotFoundError, match="no host or group fits 'three'"):
        bench.client.resume_job(job, workers="three")
    bench.client.cancel_job(job)
    assert bench.view(job).state is JobState.CANCELLED
    for ask in (bench.client.pause_job, bench.client.resume_job, bench.client.cancel_job):
        with pytest.raises(JobError, match="is cancelled"):
            ask(job)


def test_a_cancel_that_comes_while_it_pauses_is_not_lost(bench: Bench) -> None:
    job = bench.submit(env={**LONG, "SOLLOL_STUB_STEP_S": "1000"})
    bench.reaches(job, JobState.RUNNING)
    bench.client.pause_job(job)
    bench.reaches(job, JobState.PAUSING)
    bench.client.cancel_job(job, now=True)
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []


@pytest.mark.long  # tests/jobs/test_coordinator_killed.py names the moments
def test_a_supervisor_killed_while_it_pauses_is_replaced_and_pauses(bench: Bench) -> None:
    job = bench.submit(env={**LONG, "SOLLOL_STUB_STEP_S": "0.3"})
    bench.takes_steps(job)
    bench.client.pause_job(job)
    bench.reaches(job, JobState.PAUSING, JobState.PAUSED)
    bench.kill_supervisor(job)
    bench.client.revive()
    view = bench.reaches(job, JobState.PAUSED)
    assert (bench.home.job(job) / "checkpoints" / f"checkpoint-{view.step}").is_dir()
    assert bench.left(job) == []


@pytest.mark.long
def test_a_supervisor_killed_again_and_again_while_it_resumes_starts_nothing_twice(
    bench: Bench,
) -> None:
    job = bench.submit(env=SLOW)
    bench.takes_steps(job)
    pause(bench, job)
    bench.lay_out({**QUICK, "SOLLOL_STUB_STEP_S": "0.05"}, {})
    bench.client.resume_job(job)
    states = list(JobState)
    for state in (JobState.QUEUED, JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
        later = [s for s in states[states.index(state) :] if s is not JobState.PAUSED]
        bench.reaches(job, *later)
        bench.kill_supervisor(job)
        bench.client.revive()
    bench.reaches(job, JobState.DONE)
    assert [step for _, step in steps(bench, job, "one")] == list(range(1, 41))
    assert bench.started_agents(job) == [
        f"{host}/log.agent.{attempt}" for host in ("one", "two") for attempt in (1, 2)
    ]
    assert bench.copies_are_equal(job)


def test_a_job_that_cannot_go_on_now_rests_again_with_the_reason(bench: Bench) -> None:
    job = bench.submit(env=SLOW, workers="one")
    bench.takes_steps(job)
    stopped = pause(bench, job).step
    weights = bench.folder / "model" / "model.safetensors"
    was = weights.read_bytes()
    weights.write_bytes(b"other weights")
    bench.lay_out(QUICK, {})
    bench.client.resume_job(job)
    until(lambda: "is not the one it began with" in bench.view(job).reason, "it says why")
    view = bench.reaches(job, JobState.PAUSED)
    assert view.reason.startswith(f"at step {stopped}; the model in ")

    weights.write_bytes(was)
    models = bench.workdirs / "two" / "models"
    models.parent.mkdir(parents=True, exist_ok=True)
    kept = models.with_name("models.kept")
    if models.exists():
        models.rename(kept)
    models.write_text("in the way")
    try:
        bench.client.resume_job(job, workers="two")
        until(lambda: f"at step {stopped}; two: " in bench.view(job).reason, "it says who")
    finally:
        models.unlink()
        if kept.exists():
            kept.rename(models)
    bench.reaches(job, JobState.PAUSED)
    bench.client.resume_job(job, workers="one,two")
    assert bench.reaches(job, JobState.DONE).step == 40
