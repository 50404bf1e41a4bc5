"""Hosts that join, leave, are lost and come back while a job runs, on real OpenSSH hosts. Ranks are
those of the standard library where the engine is static, real ones where it is elastic."""

import json
import os
import time
from pathlib import Path

import pytest

from sollol_tui.model.snapshot import JobView, JobWorkerView
from sollol_tui.model.states import JobState
from tests.cluster.conftest import CHECKOUT
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.cluster.training.elastic_job import ElasticJob, pause_at, recording_coordinator
from tests.cluster.training.environment import needs_worker_python
from tests.jobs.bench import until

pytestmark = pytest.mark.timeout(600)
PATIENCE_S = 120.0
LONG = {"SOLLOL_STUB_STEPS": "100000", "SOLLOL_STUB_STEP_S": "0.1"}


def view(coordinator: Coordinator) -> JobView:
    return coordinator.jobs()[0]


def worker(coordinator: Coordinator, host: str) -> JobWorkerView:
    return next(w for w in view(coordinator).workers if w.host == host)


def trains(coordinator: Coordinator, *hosts: str) -> JobView:
    """The job once exactly these hosts train, and after a step of theirs."""

    def training() -> JobView | None:
        seen = view(coordinator)
        assert not seen.state.is_terminal, coordinator.supervisor_log(seen.id)
        there = {w.host for w in seen.workers if w.state == "training"}
        is_so = seen.state is JobState.RUNNING and there == set(hosts)
        return seen if is_so and seen.world_size == len(hosts) else None

    found: JobView = until(training, f"{', '.join(hosts)} train", PATIENCE_S)
    return found


def told_steps(coordinator: Coordinator, job: str, hosts: list[Machine]) -> list[tuple[int, int]]:
    """Generation and number of each step that was told."""
    steps = []
    for host in hosts:
        for path in coordinator.run_dir(job, host).glob("events.[0-9]*"):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                if event["kind"] == "step":
                    steps.append((event["generation"], event["step"]))
    return steps


def lineage(steps: list[tuple[int, int]]) -> list[int]:
    """The steps that led to the result: a later generation's beginning voids what came after it."""
    kept: list[int] = []
    for generation in sorted({generation for generation, _ in steps}):
        own = sorted(step for found, step in steps if found == generation)
        kept = [step for step in kept if step < own[0]] + own
    return kept


def submit(coordinator: Coordinator, hosts: str, *settings: str) -> str:
    flags = [word for setting in settings for word in ("--set", setting)]
    coordinator.sollol(*coordinator.train("--workers", hosts, "--detach", *flags))
    job = coordinator.job_reaches(JobState.RUNNING).id
    coordinator.sollol("wait", job, "--for", "step=2")
    return job


def rests(coordinator: Coordinator, job: str, lab: Lab) -> int:
    """Pauses the job; returns its last step, to which every step has led exactly once."""
    coordinator.sollol("pause", job, timeout_s=PATIENCE_S)
    step = coordinator.job_reaches(JobState.PAUSED).step
    assert lineage(told_steps(coordinator, job, lab.hosts)) == [*range(1, step + 1)]
    coordinator.sollol("cancel", job)
    coordinator.assert_clean()
    return step


def test_a_static_job_takes_a_host_in_and_lets_its_first_one_go(
    coordinator: Coordinator, lab: Lab
) -> None:
    coordinator.lay_out(LONG)
    job = submit(coordinator, "w1,w2")
    lab.hosts[2].power_off()
    said = coordinator.sollol("join", job, "w3")
    assert f"w3 is asked to join {job}" in said
    until(lambda: "could not join" in coordinator.sollol("events", job), "it says why", PATIENCE_S)
    assert worker(coordinator, "w3").state == "gone"
    assert trains(coordinator, "w1", "w2").state is JobState.RUNNING
    agents = coordinator.run_dir(job, lab.hosts[0]).glob("log.agent.*")
    assert len(list(agents)) == 1  # it changed nothing of the run
    lab.hosts[2].boot()
    coordinator.sollol("join", job, "w3")
    trains(coordinator, "w1", "w2", "w3")
    coordinator.sollol("leave", job, "w1")
    seen = trains(coordinator, "w2", "w3")
    assert {w.host: w.slots for w in seen.workers} == {"w2": (1,), "w3": (2,), "w1": ()}
    until(lambda: not lab.hosts[0].processes(), "nothing is left on w1", PATIENCE_S)
    refused = coordinator.sollol("leave", job, "w2,w3", expect=1)
    assert f"pause or cancel it: sollol pause {job}" in refused
    rests(coordinator, job, lab)


def test_the_coordinator_joins_when_no_host_is_named_and_leaves_again(
    coordinator: Coordinator, lab: Lab, tmp_path: Path
) -> None:
    coordinator.lay_out(LONG)
    cache = os.environ.get("UV_CACHE_DIR", f"{CHECKOUT}/.cache/uv")
    here = {"connection": "local", "workdir": str(tmp_path / "workdir")}
    whole = json.dumps({**here, "limits": {"gpu_ids": []}, "env": {"UV_CACHE_DIR": cache}})
    text = coordinator.inventory.read_text()
    coordinator.inventory.write_text(text.replace("hosts:\n", f"hosts:\n  here: {whole}\n", 1))
    job = submit(coordinator, "w1,w2", "save_steps=50")
    assert "here is asked to join" in coordinator.sollol("join", job)
    trains(coordinator, "w1", "w2", "here")
    [address] = [
        rank["address"]
        for rank in json.loads((coordinator.run_dir(job, lab.hosts[0]) / "run.json").read_text())[
            "world"
        ]
        if rank["host"] == "here"
    ]
    assert address == lab.hosts[0].gateway
    coordinator.sollol("leave", job)
    trains(coordinator, "w1", "w2")
    coordinator.sollol("cancel", job, "--now")
    coordinator.assert_clean()


def test_a_host_without_power_is_gone_on_without_and_rejoins(
    coordinator: Coordinator, lab: Lab
) -> None:
    coordinator.lay_out(LONG)
    job = submit(coordinator, "w1,w2,w3", "save_steps=20")
    coordinator.sollol("wait", job, "--for", "step=21")
    lab.hosts[0].power_off()
    until(lambda: worker(coordinator, "w1").state == "lost", "w1 is told to be lost", PATIENCE_S)
    assert "out of reach" in worker(coordinator, "w1").reason
    trains(coordinator, "w2", "w3")
    lab.hosts[0].boot()
    trains(coordinator, "w1", "w2", "w3")
    assert rests(coordinator, job, lab) > 20


@pytest.mark.parametrize(
    ("policy", "state"), [("pause", JobState.PAUSED), ("fail", JobState.FAILED)]
)
def test_a_lost_worker_pauses_or_fails_a_job_that_asks_for_that(
    coordinator: Coordinator, lab: Lab, policy: str, state: JobState
) -> None:
    coordinator.lay_out(LONG)
    job = submit(coordinator, "w1,w2", f"on_worker_loss={policy}", "save_steps=2")
    kill(lab.hosts[1])
    seen = until(
        lambda: found if (found := view(coordinator)).state is state else None, policy, PATIENCE_S
    )
    assert "w2: " in seen.reason
    if state is JobState.PAUSED:
        assert list((coordinator.home.job(job) / "checkpoints").glob("checkpoint-*"))
        coordinator.sollol("cancel", job)
    coordinator.assert_clean()


@pytest.mark.long
def test_a_host_that_is_lost_again_and_again_is_quarantined_until_it_is_asked_to_join(
    coordinator: Coordinator, lab: Lab
) -> None:
    coordinator.lay_out(LONG)
    job = submit(coordinator, "w1,w2", "save_steps=2")
    until(lambda: _killed_until_quarantined(coordinator, lab.hosts[1]), "quarantine", 240)
    assert "3 times" in worker(coordinator, "w2").reason
    assert "quarantined" in coordinator.sollol("show", job)
    trains(coordinator, "w1")
    coordinator.sollol("join", job, "w2")
    trains(coordinator, "w1", "w2")
    coordinator.sollol("cancel", job, "--now")
    coordinator.assert_clean()


def _killed_until_quarantined(coordinator: Coordinator, host: Machine) -> bool:
    state = worker(coordinator, host.name).state
    if state == "training":
        kill(host)
    return state == "quarantined"


def kill(host: Machine) -> None:
    pids = [str(process.pid) for process in host.processes()]
    if pids:
        host.run(["kill", "-9", *pids], check=False)


@pytest.mark.long
@needs_worker_python
def test_an_elastic_pair_takes_a_third_in_and_lets_its_first_go(lab: Lab, tmp_path: Path) -> None:
    with recording_coordinator(lab, tmp_path, step_s=0.1) as coordinator:
        job = ElasticJob.submit(coordinator, "w1", "w2")
        job.shared_by([0, 1], since=0.0, timeout_s=PATIENCE_S)
        coordinator.sollol("join", job.id, "w3")
        job.shared_by([0, 1, 2], since=0.0, timeout_s=PATIENCE_S)
        trains(coordinator, "w1", "w2", "w3")
        launches = [len(list(job.run_dir(host).glob("log.agent.*"))) for host in lab.hosts]
        assert launches == [1, 1, 1]  # the training went on meanwhile
        coordinator.sollol("leave", job.id, "w1")
        until(lambda: worker(coordinator, "w1").state == "gone", "w1 is gone", PATIENCE_S)
        until(lambda: keep_lighthouses(job, lab.hosts[2]) == {"w2", "w3"}, "w3 lights one", 120)
        job.shared_by([1, 2], since=time.monotonic(), timeout_s=PATIENCE_S)
        until(lambda: not lab.hosts[0].processes(), "nothing is left on w1", PATIENCE_S)
        assert [host.job for host in coordinator.client().snapshot().hosts] == [
            None, job.id, job.id,
        ]  # fmt: skip
        coordinator.sollol("cancel", job.id)
        coordinator.assert_clean()


@pytest.mark.long
@needs_worker_python
def test_of_two_elastic_hosts_the_one_that_is_left_is_released(lab: Lab, tmp_path: Path) -> None:
    with recording_coordinator(lab, tmp_path, step_s=0.1) as coordinator:
        job = ElasticJob.submit(coordinator, "w2", "w3")
        job.shared_by([0, 1], since=0.0, timeout_s=PATIENCE_S)
        lab.hosts[1].power_off()  # of two, the one with the lower slot
        job.shared_by([1], since=0.0, timeout_s=180)
        trains(coordinator, "w3")
        assert worker(coordinator, "w2").state == "lost"
        pause_at(job)
        coordinator.sollol("cancel", job.id)
        coordinator.assert_clean()


@pytest.mark.long
@needs_worker_python
def test_an_elastic_host_that_is_wanted_back_is_free_until_it_is_asked_to_join(
    lab: Lab, tmp_path: Path
) -> None:
    with recording_coordinator(lab, tmp_path, step_s=0.1) as coordinator:
        job = ElasticJob.submit(coordinator, "w1", "w2")
        job.shared_by([0, 1], since=0.0, timeout_s=PATIENCE_S)
        two = lab.hosts[1]
        records = map(json.loads, (job.run_dir(two) / "pids").read_text().splitlines())
        [agent] = [str(each["pid"]) for each in records if each["role"] == "agent"]
        two.run(["kill", "-TERM", agent])
        until(lambda: worker(coordinator, "w2").state == "quarantined", "left alone", PATIENCE_S)
        assert f"sollol join {job.id} w2" in worker(coordinator, "w2").reason
        until(lambda: not two.processes(), "nothing is left on w2", PATIENCE_S)
        job.shared_by([0], since=time.monotonic(), timeout_s=PATIENCE_S)
        hosts = coordinator.client().snapshot().hosts
        assert [host.job for host in hosts] == [job.id, None, None]
        assert len(list(job.run_dir(two).glob("log.agent.*"))) == 1
        coordinator.sollol("join", job.id, "w2")
        job.shared_by([0, 1], since=time.monotonic(), timeout_s=PATIENCE_S)
        coordinator.sollol("cancel", job.id)
        coordinator.assert_clean()


def keep_lighthouses(job: ElasticJob, told: Machine) -> set[str]:
    """The hosts with a lighthouse, as one of them was told."""
    run = json.loads((job.run_dir(told) / "run.json").read_text())
    return {light["host"] for light in run["lighthouses"]}
