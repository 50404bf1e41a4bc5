"""What stands still on a worker is named, and costs the job no more than it must: an agent that a
signal has stopped, a rank that takes no steps."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from remote.pulse import read_pulse
from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, until

LONG = {"SOLLOL_STUB_STEPS": "100000"}
# A rank is named after 10 s without a step, and ended after 60, where steps are short.
SHORTENED = {
    "NAMED_AFTER_S = 10.0": "NAMED_AFTER_S = 1.0",
    "ENDED_AFTER_S = 60.0": "ENDED_AFTER_S = 3.0",
}


def agent_pid(bench: Bench, job: str, host: str) -> int:
    lines = (bench.run_dir(job, host) / "pids").read_text().splitlines()
    pids = [line["pid"] for line in map(json.loads, lines) if line["role"] == "agent"]
    return int(pids[-1])


def notices(bench: Bench, job: str) -> list[str]:
    return [said.data["message"] for said in bench.client.events(job, "notice")]


def test_an_agent_that_a_signal_has_stopped_is_told_and_leaves_nothing_behind(bench: Bench) -> None:
    job = bench.submit(env={**LONG, "SOLLOL_STUB_STRAYS": "1"})
    bench.takes_steps(job)
    pid = agent_pid(bench, job, "two")
    os.kill(pid, signal.SIGSTOP)
    until(lambda: f"kill -CONT {pid}" in str(notices(bench, job)), "it is told, with the remedy")
    step = bench.view(job).step
    until(lambda: bench.view(job).step > step, "the training goes on")
    bench.client.cancel_job(job)
    assert bench.reaches(job, JobState.CANCELLED).reason == ""
    assert bench.left(job) == []


@pytest.fixture
def impatient(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The bench with agents that wait for a rank for three seconds only."""
    payload = tmp_path / "impatient"
    shutil.copytree(os.environ["SOLLOL_PAYLOAD"], payload)
    pulse = payload / "remote" / "pulse.py"
    text = pulse.read_text()
    for usual, short in SHORTENED.items():
        assert f"\n{usual}" in text
        text = text.replace(f"\n{usual}", f"\n{short}")
    pulse.write_text(text)
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(payload))
    return bench


def test_a_rank_that_is_stuck_is_named_and_started_again(impatient: Bench) -> None:
    job = impatient.submit(env=LONG, save_steps=5)
    impatient.takes_steps(job)
    until(lambda: impatient.view(job).step > 10, "its steps have a median")
    rank = read_pulse(impatient.run_dir(job, "two"), 1, 1)
    assert rank is not None
    os.kill(rank.pid, signal.SIGSTOP)
    stuck = until(lambda: impatient.client.events(job, "stuck"), "it is named")
    assert {(said.host, said.data["of_slot"]) for said in stuck} == {("two", 1)}
    step = impatient.view(job).step

    def went_on() -> bool:
        view = impatient.view(job)
        return view.state is JobState.RUNNING and view.step > step and view.world_size == 2

    until(lambda: len(impatient.started_agents(job)) == 4, "both are launched again")
    until(went_on, "they go on")
    with Store(impatient.home) as store:
        [recovering] = store.connection.execute(
            "SELECT reason FROM transitions WHERE job = ? AND new = 'recovering'", (job,)
        )
    assert recovering["reason"].startswith("two: ")
    assert "stuck: no step for" in recovering["reason"]
    impatient.client.cancel_job(job, now=True)
    impatient.reaches(job, JobState.CANCELLED)
    assert impatient.left(job) == []
