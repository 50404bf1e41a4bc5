"""What may go wrong around a run without ending it, and what a supervisor waits for."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.jobs import ending
from sollol_tui.jobs import submit as submitting
from sollol_tui.jobs import worker as launching
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervisor import Supervisor
from sollol_tui.jobs.worker import Place, Worker
from sollol_tui.model.errors import UnreachableError
from sollol_tui.model.inventory import Host
from sollol_tui.model.plan import PlannedWorker
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, until
from tests.jobs.conftest import ENVIRONMENT

LONG = {"SOLLOL_STUB_STEPS": "100000"}


def test_copies_that_vanish_are_made_again_and_the_run_goes_on(bench: Bench) -> None:
    job = bench.submit(env=bench.until_released(10))
    bench.takes_steps(job)
    shutil.rmtree(bench.home.copies(job, "one"))
    bench.release.touch()
    bench.reaches(job, JobState.DONE)
    assert bench.started_agents(job) == ["one/log.agent.1", "two/log.agent.1"]
    assert bench.copies_are_equal(job)


def test_ranks_stopped_by_somebody_else_end_the_job(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.takes_steps(job)
    for host in ("one", "two"):
        run_dir = str(bench.run_dir(job, host))
        subprocess.run(
            [sys.executable, "-P", "-m", "remote.agent", "control", run_dir, "stop"],
            env={**os.environ, "PYTHONPATH": os.environ["SOLLOL_PAYLOAD"]},
            check=True,
            capture_output=True,
        )
    view = bench.reaches(job, JobState.FAILED)
    assert "told to stop" in view.reason


def test_the_adapter_is_fetched_as_soon_as_its_worker_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.submit(env=bench.until_released(3))
    bench.takes_steps(job)
    bench.kill_supervisor(job)
    bench.release.touch()
    real, tries = ending.collect, []

    async def lost_twice(*arguments: object) -> Path:
        tries.append(arguments)
        if len(tries) < 3:
            raise UnreachableError("one", "the connection was lost")
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ending, "collect", lost_twice)
    with Store(bench.home) as store:
        asyncio.run(Supervisor(bench.home, store, job).run())
    view = bench.view(job)
    assert (view.state, len(tries)) == (JobState.DONE, 3)
    assert (Path(view.output_dir) / "adapter_model.safetensors").exists()


def test_cancel_waits_for_a_host_that_is_out_of_reach(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.takes_steps(job)
    payload, away = bench.workdirs / "two" / "payload", bench.workdirs / "two" / "away"
    payload.rename(away)
    try:
        bench.client.cancel_job(job)
        until(lambda: "trying again" in bench.view(job).stage, "the host is waited for")
        assert bench.view(job).state is JobState.STOPPING
    finally:
        away.rename(payload)
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []


def test_another_coordinators_job_of_the_same_id_is_not_touched(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.takes_steps(job)
    bench.kill_supervisor(job)
    with Store(bench.home) as store:
        store.connection.execute("UPDATE jobs SET nonce = 'other' WHERE id = ?", (job,))
        # The dead supervisor's streams end once their connections are seen to be closed.
        until(lambda: not any("remote.stream" in run for run in bench.left(job)), "streams end")
        running = bench.left(job)
        asyncio.run(Supervisor(bench.home, store, job).case.crew.leave("kill", 5))
    assert running
    assert bench.left(job) == running


def test_a_link_cut_at_each_step_of_the_launch_makes_one_launch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "start_supervisor", lambda home, job: None)
    job = bench.submit()
    real, tries = launching.start_agent, Counter[str]()

    async def start(connection: HostConnection, *arguments: Any) -> Any:
        name = connection.host.name
        tries[name] += 1
        if tries[name] == 1:
            raise UnreachableError(name, "the connection was lost before it was asked")
        answer = await real(connection, *arguments)
        if tries[name] == 2:
            raise UnreachableError(name, "the connection was lost before its answer came")
        return answer

    monkeypatch.setattr(launching, "start_agent", start)
    with Store(bench.home) as store:
        asyncio.run(Supervisor(bench.home, store, job).run())
        assert store.job(job).generation == 1
    assert bench.view(job).state is JobState.DONE, bench.view(job).reason
    assert tries == {"one": 3, "two": 3}
    assert bench.started_agents(job) == ["one/log.agent.1", "two/log.agent.1"]
    assert bench.left(job) == []


def test_a_port_that_a_stranger_took_is_left_to_him(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "start_supervisor", lambda home, job: None)
    job = bench.submit()
    free = Worker.choose_port
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = [stranger.getsockname()[1]]

        async def choose(worker: Worker, first: int, last: int) -> int | None:
            return taken.pop() if taken else await free(worker, first, last)

        monkeypatch.setattr(Worker, "choose_port", choose)
        with Store(bench.home) as store:
            asyncio.run(Supervisor(bench.home, store, job).run())
    assert bench.view(job).state is JobState.DONE, bench.view(job).reason
    assert bench.started_agents(job)[-1] == "two/log.agent.2"


async def test_a_host_out_of_reach_is_waited_for_until_its_time_is_over_or_nobody_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "LOST_PATIENCE_S", 0.0)
    monkeypatch.setattr(launching, "RECONNECT_S", (0.01,))
    with socket.socket() as closed:  # bound, but nobody listens there
        closed.bind(("127.0.0.1", 0))
        worker = Worker(
            job="j-1",
            nonce="n",
            host=Host(name="w1", address="127.0.0.1", port=closed.getsockname()[1]),
            planned=PlannedWorker(
                host="w1", address="127.0.0.1", accelerator="cpu", ranks=(), share=1
            ),
            home=open_home(tmp_path / "home"),
            say=lambda _: None,
            place=Place(environment=ENVIRONMENT, run_dir="/run", dataset="d", model="m"),
        )
        time_is_over = worker.stop("stop", 0.2, asyncio.Event(), patience_s=0.0)
        assert "could not be checked" in await asyncio.wait_for(time_is_over, 20)
        nobody_needs_it = replace(worker, given_up="").stop(
            "stop", 1000, asyncio.Event(), is_needed=lambda: False
        )
        assert "could not be checked" in await asyncio.wait_for(nobody_needs_it, 20)
        still = replace(worker, given_up="")
        waits = asyncio.create_task(still.stop("stop", 1000, asyncio.Event()))
        done, _ = await asyncio.wait([waits], timeout=0.3)
        assert not done
        waits.cancel()
