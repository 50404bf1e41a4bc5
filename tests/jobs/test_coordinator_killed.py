"""`kill -9` of the supervisor in each state and at each moment of a launch: the next command takes
the job up where it is, nothing starts twice, and the job ends right."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.jobs import submit as submitting
from sollol_tui.jobs.store import Store
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.jobs import mortal
from tests.jobs.bench import DEADLINE_S, Bench, is_alive, supervisors, until, write_rows
from tests.jobs.mortal import into, out_of, supervise_until

KILLED = -signal.SIGKILL
LONG = {"SOLLOL_STUB_STEPS": "100000"}
TO_THE_LAUNCH = (mortal.TRANSFERRING, mortal.WHILE_LAUNCHING, mortal.AFTER_LAUNCH)
TO_THE_RUN = (
    out_of(JobState.PLANNING),
    into(JobState.PROVISIONING),
    mortal.TRANSFERRING,
    out_of(JobState.PROVISIONING),
    into(JobState.STARTING),
    mortal.BEFORE_LAUNCH,
    mortal.WHILE_LAUNCHING,
    mortal.AFTER_LAUNCH,
    out_of(JobState.STARTING),
    into(JobState.RUNNING),
)
TO_THE_END = (out_of(JobState.RUNNING), into(JobState.FINISHING), out_of(JobState.FINISHING))


pytestmark = pytest.mark.timeout(300)  # a dozen interpreters start, one after the other


@pytest.fixture
def unattended(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A submitted job has no supervisor until a test starts one."""
    monkeypatch.setattr(submitting, "start_supervisor", lambda home, job: None)
    return monkeypatch


def write_new_rows(bench: Bench) -> None:
    """More than goes in one piece, and nothing that a host has from another test."""
    with write_rows(bench.folder / "rows.jsonl", 60_000).open("a") as file:
        file.write(f'{{"instruction": "say it", "output": "{bench.folder.name}"}}\n')


def die_at_each(bench: Bench, job: str, *points: str) -> None:
    for point in points:
        said = supervise_until(bench.home, job, point)
        assert said == KILLED, f"{point}: {said}\n{bench.supervisor_log(job)}"


def events(bench: Bench, job: str, *kinds: str) -> list[tuple[str, int | None, int]]:
    said = bench.client.events(job, *kinds)
    return sorted((event.kind, event.slot, event.attempt) for event in said)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param((*TO_THE_LAUNCH, into(JobState.FINISHING)), id="some"),
        pytest.param((*TO_THE_RUN, *TO_THE_END), id="all", marks=pytest.mark.long),
    ],
)
def test_a_job_survives_the_death_of_its_supervisor_in_every_state(
    bench: Bench, unattended: pytest.MonkeyPatch, points: tuple[str, ...]
) -> None:
    write_new_rows(bench)
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "30"})
    die_at_each(bench, job, *points)
    assert bench.client.revive() == [job]
    view = bench.reaches(job, JobState.DONE)
    assert (view.step, view.samples_done, view.world_size) == (30, 480, 2)
    assert (Path(view.output_dir) / "adapter_model.safetensors").read_bytes() == b"stub 30\n"
    assert bench.started_agents(job) == ["one/log.agent.1", "two/log.agent.1"]
    assert events(bench, job, "ready", "finished") == [
        ("finished", 0, 1), ("finished", 1, 1), ("ready", 0, 1), ("ready", 1, 1),
    ]  # fmt: skip
    assert bench.copies_are_equal(job)
    assert bench.left(job) == []
    with Store(bench.home) as store:
        assert store.leases.held() == {}
    # Halves of what was on its way are gone, or were made whole.
    assert [*bench.workdirs.glob("*/datasets/**/*.part*")] == []


def test_a_pause_and_a_resume_survive_it_too(bench: Bench, unattended: pytest.MonkeyPatch) -> None:
    job = bench.submit(env=LONG)
    die_at_each(bench, job, into(JobState.RUNNING))
    until(lambda: "step 3 " in log_of(bench, job), "some steps")
    with unattended.context() as alone:
        alone.setattr("sollol_tui.client.revive", lambda store: [])
        bench.client.pause_job(job)
        die_at_each(bench, job, into(JobState.PAUSING), out_of(JobState.PAUSING))
    assert bench.client.revive() == [job]
    paused = bench.reaches(job, JobState.PAUSED)
    assert paused.step >= 3
    assert bench.left(job) == []
    kept = bench.home.job(job) / "checkpoints" / f"checkpoint-{paused.step}"
    assert (kept / "adapter_model.safetensors").read_bytes() == b"stub %d\n" % paused.step
    bench.lay_out({"SOLLOL_STUB_STEPS": str(paused.step + 5), "SOLLOL_STUB_STEP_S": "0.02"}, {})
    with unattended.context() as alone:
        alone.setattr("sollol_tui.client.revive", lambda store: [])
        bench.client.resume_job(job)
        die_at_each(bench, job, into(JobState.STARTING), mortal.WHILE_LAUNCHING)
    bench.client.revive()
    assert bench.reaches(job, JobState.DONE).step == paused.step + 5
    assert bench.started_agents(job) == [
        f"{host}/log.agent.{number}" for host in ("one", "two") for number in (1, 2)
    ]
    assert bench.left(job) == []


def log_of(bench: Bench, job: str) -> str:
    path = bench.run_dir(job, "one") / "log.0.1"
    return path.read_text() if path.exists() else ""


def test_the_loss_of_a_worker_survives_it_too(bench: Bench, unattended: pytest.MonkeyPatch) -> None:
    job = bench.submit(env=LONG, save_steps=2)
    die_at_each(bench, job, into(JobState.RUNNING))
    until(lambda: "step 3 " in log_of(bench, job), "some steps")
    kill_agent(bench, job, "two")
    die_at_each(bench, job, into(JobState.RECOVERING), out_of(JobState.RECOVERING))
    assert bench.client.revive() == [job]
    bench.reaches(job, JobState.RUNNING)
    step = bench.view(job).step
    view = until(lambda: seen if (seen := bench.view(job)).step > step else None, "it goes on")
    assert view.world_size == 2
    assert bench.started_agents(job) == [
        f"{host}/log.agent.{number}" for host in ("one", "two") for number in (1, 2)
    ]
    bench.client.cancel_job(job, now=True)
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []


def kill_agent(bench: Bench, job: str, host: str) -> None:
    lines = (bench.run_dir(job, host) / "pids").read_text().splitlines()
    agents = [line["pid"] for line in map(json.loads, lines) if line["role"] == "agent"]
    os.kill(agents[-1], signal.SIGKILL)


@pytest.mark.parametrize("now", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_cancel_survives_it_too(bench: Bench, unattended: pytest.MonkeyPatch, now: bool) -> None:
    job = bench.submit(env=LONG)
    die_at_each(bench, job, into(JobState.RUNNING))
    with unattended.context() as alone:
        alone.setattr("sollol_tui.client.revive", lambda store: [])
        bench.client.cancel_job(job, now=now)
        die_at_each(bench, job, into(JobState.STOPPING), out_of(JobState.STOPPING))
    assert bench.client.revive() == [job]
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []
    assert bench.started_agents(job) == ["one/log.agent.1", "two/log.agent.1"]


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(mortal.TRANSFERRING, marks=pytest.mark.long),
        mortal.WHILE_LAUNCHING,
        pytest.param(into(JobState.FINISHING), marks=pytest.mark.long),
    ],
)
def test_a_job_is_cancelled_wherever_its_supervisor_died(
    bench: Bench, unattended: pytest.MonkeyPatch, point: str
) -> None:
    if point == mortal.TRANSFERRING:
        write_new_rows(bench)
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "3" if "finishing" in point else "100000"})
    die_at_each(bench, job, point)
    bench.client.cancel_job(job, now=True)
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []
    with Store(bench.home) as store:
        assert store.leases.held() == {}


def test_of_two_supervisors_that_start_at_once_one_leaves_and_what_it_left_locks_nobody_out(
    bench: Bench, unattended: pytest.MonkeyPatch
) -> None:
    job = bench.submit(env=LONG)
    both = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "sollol_tui.jobs.supervise", job],
            env=os.environ | {"SOLLOL_HOME": str(bench.home.root)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    until(lambda: any(one.poll() is not None for one in both), "one of them leaves")
    assert [one.poll() for one in both if one.poll() is not None] == [0]
    bench.takes_steps(job)
    assert bench.started_agents(job) == ["one/log.agent.1", "two/log.agent.1"]
    assert len([one for one in supervisors(bench.home) if is_alive(one)]) == 1
    bench.kill_supervisor(job)
    assert sorted(one.wait(timeout=DEADLINE_S) for one in both) == [KILLED, 0]
    (bench.home.job(job) / "supervisor.lock").write_text("another boot\n4711\n")
    assert bench.client.revive() == [job]
    bench.client.cancel_job(job, now=True)
    bench.reaches(job, JobState.CANCELLED)


def test_of_two_coordinators_the_first_on_a_host_has_it_and_the_second_is_told(
    bench: Bench, unattended: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = bench.submit(env=LONG)
    other = SOLLOLClient(bench.inventory, home=tmp_path_factory.mktemp("elsewhere"))
    # Planned from another state folder, where nobody knows of the first.
    second = other.submit_job(bench.spec(output_dir=str(bench.folder / "beside"))).id
    bench.client.revive()
    bench.takes_steps(first)
    other.revive()
    view = until(lambda: ended(other, second), "the second job has ended")
    assert view.state is JobState.FAILED
    assert f"the CPU of one is in use by {first}, a job of another coordinator" in view.reason
    other.close()
    assert bench.left(second) == []
    assert bench.view(first).state is JobState.RUNNING
    bench.client.cancel_job(first, now=True)
    bench.reaches(first, JobState.CANCELLED)
    assert bench.started_agents(first) == ["one/log.agent.1", "two/log.agent.1"]


def ended(client: SOLLOLClient, job: str) -> JobView | None:
    view = client.get_job_status(job)
    return view if view.state.is_terminal else None
