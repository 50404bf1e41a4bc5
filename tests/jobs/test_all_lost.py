"""A job without workers: it waits, says for whom, and goes on by itself with those who are back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import pytest

from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.jobs import probe, queue, recovery, regroup
from sollol_tui.jobs import submit as submitting
from sollol_tui.jobs import worker as reaching
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervisor import Supervisor
from sollol_tui.model.errors import UnreachableError
from sollol_tui.model.inventory import Host
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.jobs.bench import DEADLINE_S, Bench, runs

LONG = {"SOLLOL_STUB_STEPS": "100000"}
Connect = Callable[..., AbstractAsyncContextManager[HostConnection]]


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The hosts to which no new connection is made."""
    names: set[str] = set()

    def unless_away(connect: Connect) -> Connect:
        @asynccontextmanager
        async def reach(host: Host, *arguments: Any, **more: Any) -> AsyncIterator[HostConnection]:
            if host.name in names:
                raise UnreachableError(host.name, "no route to host")
            async with connect(host, *arguments, **more) as connection:
                yield connection

        return reach

    for module in (reaching, probe):
        monkeypatch.setattr(module, "connect", unless_away(module.connect))
    monkeypatch.setattr(reaching, "RECONNECT_S", (0.05,))
    monkeypatch.setattr(queue, "LOOK_AGAIN_S", 0.5)
    monkeypatch.setattr(regroup, "LAST_WORDS_S", 0.2)
    monkeypatch.setattr(recovery, "WAITS_S", (1.0, 1.0, 1.0))
    monkeypatch.setattr(submitting, "start_supervisor", lambda home, job: None)
    return names


async def becomes(bench: Bench, job: str, claim: Callable[[JobView], bool], what: str) -> JobView:
    """The job once the claim holds; its supervisor works in this loop."""
    async with asyncio.timeout(DEADLINE_S):
        while not claim(view := bench.view(job)):
            assert view.state is not JobState.FAILED, f"{what}: {view.reason}"
            await asyncio.sleep(0.02)
    return view


def kill_what_trains(bench: Bench) -> None:
    """The streams go on: they tell that nothing is there any more."""
    for process, _ in runs(bench.workdirs):
        with suppress(Exception):
            if "remote.stream" not in process.cmdline():
                process.kill()


def states(view: JobView) -> dict[str, str]:
    return {worker.host: worker.state for worker in view.workers}


async def test_a_job_whose_workers_are_all_lost_waits_and_goes_on_with_those_who_are_back(
    bench: Bench, away: set[str]
) -> None:
    job = bench.submit(env=LONG, save_steps=2)
    with Store(bench.home) as store:
        supervising = asyncio.create_task(Supervisor(bench.home, store, job).run())
        await becomes(bench, job, lambda view: view.step > 5, "some steps")
        away |= {"one", "two"}
        kill_what_trains(bench)
        waiting = await becomes(bench, job, lambda v: v.state is JobState.QUEUED, "it waits")
        assert {host in waiting.reason for host in ("one", "two")} == {True}
        [told] = [reason for new, reason in moves(store, job) if new == "queued" and reason][1:]
        assert told.startswith("all its workers are lost; waits for one: ")
        assert store.leases.held() == {}

        away -= {"two"}
        alone = await becomes(
            bench, job, lambda v: v.state is JobState.RUNNING and v.step > waiting.step, "one goes"
        )
        assert (alone.world_size, states(alone)) == (1, {"two": "training", "one": "lost"})

        away.clear()
        again = await becomes(
            bench, job, lambda v: [*states(v).values()] == ["training"] * 2, "both train"
        )
        assert again.state is JobState.RUNNING
        bench.client.cancel_job(job)
        await supervising
        await becomes(bench, job, lambda view: not bench.left(job), "nothing is left")
    assert bench.view(job).state is JobState.CANCELLED


async def test_a_job_that_waited_waits_again_when_its_worker_is_away_once_more(
    bench: Bench, away: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.submit(env=LONG, workers="one", save_steps=2)
    real = reaching.Worker.prepare

    async def lost_meanwhile(worker: reaching.Worker, *arguments: Any) -> Any:
        raise UnreachableError(worker.host.name, "the connection was lost")

    with Store(bench.home) as store:
        supervising = asyncio.create_task(Supervisor(bench.home, store, job).run())
        await becomes(bench, job, lambda view: view.step > 5, "some steps")
        monkeypatch.setattr(reaching.Worker, "prepare", lost_meanwhile)
        kill_what_trains(bench)

        def turns() -> int:
            return sum(new == "queued" for new, _ in moves(store, job))

        async with asyncio.timeout(DEADLINE_S):
            while turns() < 4:  # submitted, lost, and twice in vain
                assert not supervising.done()
                await asyncio.sleep(0.02)
        monkeypatch.setattr(reaching.Worker, "prepare", real)
        step = bench.view(job).step
        await becomes(bench, job, lambda view: view.step > step, "it goes on")
        assert "paused" not in {new for new, _ in moves(store, job)}
        bench.client.cancel_job(job, now=True)
        await supervising
        await becomes(bench, job, lambda view: not bench.left(job), "nothing is left")


def moves(store: Store, job: str) -> list[tuple[str, str]]:
    """Each state that the job came to, and why."""
    rows = store.connection.execute("SELECT new, reason FROM transitions WHERE job = ?", (job,))
    return [(row["new"], row["reason"]) for row in rows]
