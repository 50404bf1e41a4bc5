"""Who is in the next generation of a job, and whose ranks are waited for when one ends."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.jobs import crew as ending_together
from sollol_tui.jobs import membership, sight
from sollol_tui.jobs import worker as leaving
from sollol_tui.jobs.attended import Attended
from sollol_tui.jobs.checkpoints import bring_newest
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.ending import _bring_checkpoint
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.membership import Membership
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.records import load
from sollol_tui.jobs.regroup import end_generation, lose, plan_next
from sollol_tui.jobs.requests import ask_to_join
from sollol_tui.jobs.roster import expect
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.view import read_jobs
from sollol_tui.jobs.worker import Place, Worker
from sollol_tui.model.errors import UnreachableError
from sollol_tui.model.events import decode
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.plan import Plan, PlannedRank
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState, WorkerState
from tests.jobs.conftest import ENVIRONMENT
from tests.jobs.samples import add_job, line, plan

Tries = asyncio.Semaphore


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
    monkeypatch.setattr(sight, "STUCK_AFTER_S", 0.0)
    _, attending = one_has_left(store, who_waits=(0, 1))
    assert await asyncio.wait_for(attending, 20) == "released from w3"


async def test_those_of_whom_one_computes_wait_for_that_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sight, "STUCK_AFTER_S", 0.0)
    crew, attending = one_has_left(store, who_waits=(1,))
    looks = asyncio.Semaphore(0)
    monkeypatch.setattr(crew, "note_training", looks.release)
    for _ in range(3):
        await asyncio.wait_for(looks.acquire(), 20)
    assert not attending.done()
    attending.cancel()
    await asyncio.gather(attending, return_exceptions=True)


async def test_who_joins_is_not_lost_because_an_earlier_agent_of_its_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left in an earlier generation, of which this one has heard nothing."""
    job = running(store, "w1", "w2", engine="elastic")
    now = load(Plan, store.job(job).plan)
    store.note_plan(job, replace(now, lit=now.lighthouses(29500)))
    hosts = tuple(Host(name=name) for name in ("w1", "w2", "w3"))
    inventory = Inventory(file="inventory.yaml", hosts=hosts)
    spec = load(JobSpec, store.job(job).spec)
    store.note_wish(job, spec=spec, inventory=inventory, same_hosts=())
    crew = Crew(store, store.job(job), lambda host, text: None)
    planned = replace(plan("w1", "w2", "w3").workers[2], ranks=(PlannedRank(slot=-1, gpu=None),))
    launched = asyncio.Event()

    async def receive(store: Store, crew: Crew, spec: JobSpec, host: str) -> Worker:
        expect(store, job, host)
        for state in (WorkerState.PROVISIONING, WorkerState.READY):
            store.move_worker(job, host, state)
        return crew.worker(planned, hosts[2])

    async def launch_one(worker: Worker, *arguments: object) -> None:
        crew.watch._on_over(worker.host.name)
        launched.set()

    monkeypatch.setattr(membership, "receive", receive)
    monkeypatch.setattr(crew, "launch_one", launch_one)
    ask_to_join(store, job, inventory, "w3")
    members = Membership(store, crew, spec, {}, asyncio.Lock())
    attending = asyncio.create_task(members.attend())
    await asyncio.wait_for(launched.wait(), 20)
    looks = asyncio.Semaphore(0)
    monkeypatch.setattr(crew, "note_training", looks.release)
    for _ in range(3):
        await asyncio.wait_for(looks.acquire(), 20)
    attending.cancel()
    await asyncio.gather(attending, return_exceptions=True)
    [state] = [worker.state for worker in store.workers(job) if worker.host == "w3"]
    assert (state, crew.progress.lost) == (WorkerState.READY, {})


@pytest.fixture
def out_of_reach(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Crew, Tries]]:
    """An elastic job of three hosts whose last one answers nobody, and each try to reach it."""
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
        says(crew, "w3", "ready", 2, world_size=3)
        yield crew, tries


def says(crew: Crew, host: str, kind: str, slot: int, **data: object) -> None:
    event = decode(line(kind, slot, job=crew.job, host=host, **data))
    assert event is not None
    crew.progress.apply(host, event)


async def test_a_host_out_of_reach_is_given_up_once_others_have_saved_the_last_step_of_all(
    out_of_reach: tuple[Crew, Tries],
) -> None:
    crew, tries = out_of_reach
    says(crew, "w1", "stopped", 0, step=4, together=False)
    ending = asyncio.create_task(crew.leave("stop", 1000))
    for _ in range(3):
        await asyncio.wait_for(tries.acquire(), 20)
    assert not ending.done()  # it may be the one that still trains
    says(crew, "w2", "stopped", 1, step=9, together=True)
    [problem] = await asyncio.wait_for(ending, 20)
    assert "w3 could not be checked" in problem


async def test_a_generation_that_ends_waits_for_no_host_that_is_lost_out_of_sight_meanwhile(
    out_of_reach: tuple[Crew, Tries], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew, tries = out_of_reach
    crew.watch.unseen |= {"w1": "", "w2": "", "w3": "no route to host"}
    ending = asyncio.create_task(crew.halt("stop", 1000))
    for _ in range(3):
        await asyncio.wait_for(tries.acquire(), 20)
    assert not ending.done()  # it has been out of sight for a moment only
    monkeypatch.setattr(sight, "LOST_AFTER_S", 0.001)
    problems = await asyncio.wait_for(ending, 20)
    assert "w3 could not be checked" in problems["w3"]


async def test_while_no_host_is_in_sight_a_generation_that_ends_waits_for_who_may_hold_steps(
    out_of_reach: tuple[Crew, Tries], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sight, "LOST_AFTER_S", 0.001)
    monkeypatch.setattr(ending_together, "REQUEST_POLL_S", 0.001)
    crew, tries = out_of_reach
    crew.watch.unseen |= dict.fromkeys(("w1", "w2", "w3"), "no route to host")
    ending = asyncio.create_task(crew.halt("stop", 1000))
    for _ in range(20):
        await asyncio.wait_for(tries.acquire(), 20)
    assert not ending.done()  # it is our own network
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)


@pytest.mark.parametrize(("kind", "asked"), [("ready", "stop"), ("loading", "kill")])
async def test_a_rank_that_was_launched_again_and_still_loads_is_not_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str, asked: str
) -> None:
    job = running(store, "w1", "w2", engine="elastic")
    crew, told = Crew(store, store.job(job), lambda host, text: None), dict[str, str]()

    async def stop(worker: Worker, action: str, *arguments: object) -> str:
        told[worker.host.name] = action
        return ""

    monkeypatch.setattr(Worker, "stop", stop)
    says(crew, "w1", "ready", 0, world_size=2)
    says(crew, "w2", kind, 1, world_size=2)
    assert await crew.halt("stop", 60) == {}
    assert told == {"w1": "stop", "w2": asked}


@pytest.mark.parametrize(("apart", "asked"), [(True, "stop"), (False, "kill")])
async def test_a_student_apart_saves_what_it_learnt_when_another_is_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch, apart: bool, asked: str
) -> None:
    job, told = running(store, "w1", "w2"), dict[str, str]()
    store.note_plan(job, replace(load(Plan, store.job(job).plan), apart=apart))
    crew = Crew(store, store.job(job), lambda host, text: None)

    async def stop(worker: Worker, action: str, *arguments: object) -> str:
        told[worker.host.name] = action
        return ""

    monkeypatch.setattr(Worker, "stop", stop)
    for slot, host in enumerate(("w1", "w2")):
        says(crew, host, "ready", slot, world_size=1)
    crew.progress.lost["w2"] = "its agent is gone"
    monkeypatch.setattr(crew.watch, "watching", contextlib.nullcontext)
    monkeypatch.setattr(crew.watch, "is_over", lambda: True)
    assert await end_generation(crew) == {}
    assert told == {"w1": asked}


async def test_a_host_that_was_given_up_is_asked_no_more_in_that_round(
    out_of_reach: tuple[Crew, Tries], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "CLEANUP_LIMIT_S", 0.0)
    crew, _ = out_of_reach
    crew.watch.unseen["w3"] = ""  # its connection has been lost since
    problems = await asyncio.wait_for(crew.halt("kill", 0.0), 20)
    assert "w3 could not be checked" in problems["w3"]
    asked: list[str] = []
    real = leaving.connect

    def connect(host: Host, *arguments: Any) -> Any:
        asked.append(host.name)
        return real(host, *arguments)

    monkeypatch.setattr(leaving, "connect", connect)
    again = Crew(store, store.job(crew.job), lambda host, text: None)
    again.workers[2].place = crew.workers[2].place
    again.give_up_as(crew)
    for one in (crew, again):
        assert "w3" not in {worker.host.name for worker in one.in_reach}
        assert await one.halt("kill", 0.0) == problems
    assert asked == []
    case = Attended(store.home, store, crew.job)
    case.crew = again
    assert await _bring_checkpoint(case) is None
    assert asked == []
    with pytest.raises(UnreachableError):  # what is launched anew is asked again
        await again.workers[2].launch({}, {})
    assert set(asked) == {"w3"}


async def test_a_teacher_out_of_reach_holds_no_end_for_longer_than_it_takes_to_call_it_lost(
    out_of_reach: tuple[Crew, Tries], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew, tries = out_of_reach
    away = crew.workers[2]
    crew.teachers = [replace(away, role=".teacher")]
    monkeypatch.setattr(ending_together, "LOST_PATIENCE_S", 0.0)
    ending = asyncio.create_task(crew.dismiss_teachers())
    for _ in range(20):
        await asyncio.wait_for(tries.acquire(), 20)
    assert not ending.done()  # it has been out of sight for a moment only
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    crew.lost_teachers = {"w3"}
    [problem] = await asyncio.wait_for(crew.dismiss_teachers(), 20)
    assert problem.startswith("w3 could not be checked (")
    assert problem.endswith(
        "0 s were enough, as it was lost before, because a teacher has nothing to save; "
        "what it scores there ends by itself"
    )
    monkeypatch.setattr(ending_together, "LOST_AFTER_S", 0.0)
    crew.teachers, crew.lost_teachers = [replace(away, role=".teacher")], ()
    [problem] = await asyncio.wait_for(crew.dismiss_teachers(), 20)
    assert "0 s were enough, because" in problem


async def test_hosts_are_asked_for_their_checkpoints_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(store, "w1", "w2")
    crew, both = Crew(store, store.job(job), lambda host, text: None), asyncio.Barrier(2)
    for worker in crew.workers:
        worker.place = Place(environment=ENVIRONMENT, run_dir="/run", dataset="d", model="m")

    async def over_ssh(worker: Worker, act: object) -> list[int]:
        await both.wait()
        raise UnreachableError(worker.host.name, "no route to host")

    monkeypatch.setattr(Worker, "over_ssh", over_ssh)
    with pytest.raises(UnreachableError):
        await asyncio.wait_for(bring_newest(store.home, job, crew.workers), 20)


def test_while_none_of_the_workers_is_in_sight_the_job_says_what_is_waited_for(
    store: Store,
) -> None:
    job = running(store, "w1", "w2")
    watch = Crew(store, store.job(job), lambda host, text: None).watch

    def stage() -> str:
        [view] = read_jobs(store)
        return view.stage

    watch._on_seen("w1", "no route to host")
    assert stage() == ""
    watch._on_seen("w2", "no answer")
    assert "none of its workers is in sight: " in stage()
    assert "goes on by itself" in stage()
    watch._on_seen("w1", "")
    assert stage() == ""
    watch._on_seen("w1", "no route to host")
    watch = Crew(store, store.job(job), lambda host, text: None).watch  # of another supervisor
    watch._on_seen("w1", "no route to host")
    assert "none of its workers is in sight: " in stage()
    watch._on_seen("w2", "")
    assert stage() == ""
    assert {w.host: bool(w.unseen_since) for w in store.workers(job)} == {"w1": True, "w2": False}
