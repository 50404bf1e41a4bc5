"""Who is in the next generation of a job, and whose ranks are waited for when one ends."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.jobs import recovery
from sollol_tui.jobs import worker as leaving
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.membership import Membership
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.records import load
from sollol_tui.jobs.regroup import lose, plan_next
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Place
from sollol_tui.model.events import decode
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState, WorkerState
from tests.jobs.conftest import ENVIRONMENT
from tests.jobs.samples import add_job, line, plan


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(open_home(tmp_path / "home")) as opened:
        yield opened


def running(store: Store, *hosts: str, engine: str = "static") -> str:
    """A job whose first generation trains on these hosts."""
    job = add_job(store)
    planned = replace(plan(*hosts), engine=engine)
    take_turn(store, job, planned)
    for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
        store.move_job(job, state)
    store.note_launch(job, generation=1, main_port=29500)
    for host in hosts:
        for worker in (WorkerState.PROVISIONING, WorkerState.READY, WorkerState.TRAINING):
            store.move_worker(job, host, worker)
    return job


@pytest.mark.parametrize(("sight", "hosts"), [("no answer", ["w1"]), ("", ["w1", "w2"])])
def test_the_next_generation_waits_for_no_lost_host_that_is_out_of_sight(
    store: Store, sight: str, hosts: list[str]
) -> None:
    job = running(store, "w1", "w2")
    crew = Crew(store, store.job(job), lambda host, text: None)
    lose(store, job, "w2", "out of reach for 20 s", is_there=False)
    store.note_worker(job, "w2", tried_at=0.0)  # long ago, so its turn has come
    crew.watch.unseen["w2"] = sight
    store.move_job(job, JobState.RECOVERING)
    assert plan_next(store, job, crew, {})
    assert [worker.host for worker in load(Plan, store.job(job).plan).workers] == hosts


def one_has_left(store: Store, who_waits: tuple[int, ...]) -> tuple[Crew, asyncio.Task[str]]:
    """Those who are left of an elastic job, some of which take no steps, and their attendance."""
    job = running(store, "w1", "w2", "w3", engine="elastic")
    for state in (WorkerState.LEAVING, WorkerState.GONE):
        store.move_worker(job, "w3", state)
    rest = replace(load(Plan, store.job(job).plan), workers=plan("w1", "w2").workers)
    store.note_plan(job, replace(rest, lit=rest.lighthouses(29500)))
    crew = Crew(store, store.job(job), lambda host, text: None)
    crew.progress.stuck |= dict.fromkeys(who_waits, "it waits for the other ranks")
    members = Membership(store, crew, load(JobSpec, store.job(job).spec), {}, asyncio.Lock())
    return crew, asyncio.create_task(members.attend())


async def test_those_who_wait_for_one_that_has_left_are_released(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that let it go may have reached it alone."""
    monkeypatch.setattr(recovery, "STUCK_AFTER_S", 0.0)
    _, attending = one_has_left(store, who_waits=(0, 1))
    assert await asyncio.wait_for(attending, 20) == "released from w3"


async def test_those_of_whom_one_computes_wait_for_that_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "STUCK_AFTER_S", 0.0)
    crew, attending = one_has_left(store, who_waits=(1,))
    looks = asyncio.Semaphore(0)
    monkeypatch.setattr(crew, "note_training", looks.release)
    for _ in range(3):
        await asyncio.wait_for(looks.acquire(), 20)
    assert not attending.done()
    attending.cancel()
    await asyncio.gather(attending, return_exceptions=True)


async def test_a_host_out_of_reach_is_given_up_once_others_have_saved_the_last_step_of_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "LOST_PATIENCE_S", 0.0)
    monkeypatch.setattr(leaving, "RECONNECT_S", (0.01,))
    job = running(store, "w1", "w2", "w3", engine="elastic")
    with socket.socket() as closed:  # bound, but nobody listens there
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        away = Host(name="w3", address="127.0.0.1", port=port)
        hosts = (Host(name="w1"), Host(name="w2"), away)
        store.note_wish(
            job,
            spec=load(JobSpec, store.job(job).spec),
            inventory=Inventory(file="inventory.yaml", hosts=hosts),
            same_hosts=(),
        )
        tries = asyncio.Semaphore(0)
        crew = Crew(store, store.job(job), lambda host, text: tries.release())
        for worker in crew.workers[2:]:  # of the others nothing is left
            worker.place = Place(environment=ENVIRONMENT, run_dir="/run", dataset="d", model="m")
        stopped_alone = decode(line("stopped", 0, job=job, step=4, together=False))
        stopped_with_all = decode(line("stopped", 1, job=job, host="w2", step=9, together=True))
        assert stopped_alone is not None
        assert stopped_with_all is not None
        crew.progress.apply("w1", stopped_alone)
        ending = asyncio.create_task(crew.leave("stop", 1000))
        for _ in range(3):
            await asyncio.wait_for(tries.acquire(), 20)
        assert not ending.done()  # it may be the one that still trains
        crew.progress.apply("w2", stopped_with_all)
        [problem] = await asyncio.wait_for(ending, 20)
        assert "w3 could not be checked" in problem
