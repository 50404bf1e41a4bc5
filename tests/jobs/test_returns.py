"""A lost worker on its way back: tries are counted once each, only where the host answered, and a
return that was cut short is begun again."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.jobs import membership
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.membership import Membership
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.records import WorkerRecord
from sollol_tui.jobs.regroup import plan_next
from sollol_tui.jobs.requests import ask_to_join, ask_to_leave
from sollol_tui.jobs.roster import expect
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.errors import HostError, UnreachableError
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState, WorkerState
from tests.jobs.samples import add_job, plan

DEADLINE_S = 60.0
INVENTORY = Inventory(file="inventory.yaml", hosts=tuple(Host(name=f"w{n}") for n in range(1, 4)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(open_home(tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def job(store: Store) -> str:
    """Trains on w1 and w2; w3 was one of them and is lost."""
    made = add_job(store)
    store.note_wish(made, spec=JobSpec(model="m", dataset="d"), inventory=INVENTORY, same_hosts=())
    take_turn(store, made, plan("w1", "w2"))
    for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
        store.move_job(made, state)
    for host in ("w1", "w2"):
        for worker in (WorkerState.PROVISIONING, WorkerState.READY, WorkerState.TRAINING):
            store.move_worker(made, host, worker)
    expect(store, made, "w3")
    store.move_worker(made, "w3", WorkerState.LOST, "its agent is gone")
    return made


def w3(store: Store, job: str) -> WorkerRecord:
    return next(worker for worker in store.workers(job) if worker.host == "w3")


async def attend(store: Store, job: str, met: Callable[[], bool]) -> None:
    """A generation's membership, followed until `met`; then the generation ends."""
    record = store.job(job)
    crew = Crew(store, record, lambda host, text: None)
    spec = JobSpec(model="m", dataset="d")
    attending = asyncio.create_task(Membership(store, crew, spec, {}, asyncio.Lock()).attend())
    async with asyncio.timeout(DEADLINE_S):
        while not met():
            assert not attending.done()
            await asyncio.sleep(0.01)
    attending.cancel()
    await asyncio.gather(attending, return_exceptions=True)


def received(monkeypatch: pytest.MonkeyPatch, *fates: HostError | None) -> list[str]:
    """How each host fares that is asked to come: None is let wait for ever. Lists who was asked."""
    asked: list[str] = []
    left = [*fates]

    async def receive(store: Store, crew: Crew, spec: JobSpec, host: str) -> Worker:
        asked.append(host)
        store.move_worker(crew.job, host, WorkerState.PROVISIONING)
        if left and (fate := left.pop(0)):
            raise fate
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    monkeypatch.setattr(membership, "receive", receive)
    return asked


async def test_a_return_that_is_cut_short_is_begun_again_and_was_no_try(
    store: Store, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generation may end meanwhile, by a loss or by the death of the supervisor."""
    monkeypatch.setattr(membership, "may_try", lambda worker, now: worker.state == "lost")
    asked = received(monkeypatch)
    for times in (1, 2, 3, 4):
        await attend(store, job, lambda times=times: len(asked) == times)
        assert w3(store, job).state is WorkerState.PROVISIONING
    assert asked == ["w3"] * 4
    assert w3(store, job).tries == 1


async def test_a_try_that_fails_counts_once_and_one_without_an_answer_not_at_all(
    store: Store, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, away = HostError("w3", "the disk is full"), UnreachableError("w3", "no route")
    asked = received(monkeypatch, full, away, away)
    monkeypatch.setattr(membership, "may_try", lambda worker, now: worker.state == "lost")
    tries: list[tuple[int, str]] = []

    def ended(times: int) -> bool:
        return len(asked) == times and w3(store, job).state is WorkerState.LOST

    for times in (1, 2, 3):
        await attend(store, job, lambda times=times: ended(times))
        tries.append((w3(store, job).tries, w3(store, job).reason))
    assert [(number, reason.partition(": ")[2]) for number, reason in tries] == [
        (1, "the disk is full"), (1, "no route"), (1, "no route"),
    ]  # fmt: skip
    assert w3(store, job).tried_at is not None


async def test_a_join_that_was_taken_back_while_nobody_looked_is_no_return(
    store: Store, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = received(monkeypatch)
    ask_to_join(store, job, INVENTORY, "w3")
    await attend(store, job, lambda: len(asked) == 1)
    ask_to_leave(store, job, INVENTORY, "w3")
    await attend(store, job, lambda: w3(store, job).state is WorkerState.GONE)
    assert asked == ["w3"]


def test_one_whose_place_another_job_has_taken_meanwhile_stays_lost_or_was_asked_in_vain(
    store: Store, job: str
) -> None:
    other = add_job(store, "host w3")
    crew = Crew(store, store.job(job), lambda host, text: None)
    coming = plan("w1", "w2", "w3").workers[-1]
    for is_asked, state in ((False, WorkerState.LOST), (True, WorkerState.GONE)):
        if is_asked:
            ask_to_join(store, job, INVENTORY, "w3")
        for way in (WorkerState.PROVISIONING, WorkerState.READY):
            store.move_worker(job, "w3", way)
        arrivals = {"w3": crew.worker(coming, INVENTORY.host("w3"))}
        assert plan_next(store, job, crew, arrivals)
        assert arrivals == {}
        assert (w3(store, job).state, other in w3(store, job).reason) == (state, True)


@pytest.mark.parametrize("is_alone", [False, True])
def test_one_that_comes_back_to_an_elastic_job_is_released_where_nobody_trains(
    store: Store, job: str, is_alone: bool
) -> None:
    store.note_plan(job, replace(plan("w1", "w2", "w3"), engine="elastic"))
    if is_alone:
        store.move_worker(job, "w2", WorkerState.LOST, "no route")
    for way in (WorkerState.LOST, WorkerState.PROVISIONING, WorkerState.READY):
        store.move_worker(job, "w1", way)
    crew = Crew(store, store.job(job), lambda host, text: None)
    crew.progress.lost["w3"] = "no route"
    members = Membership(store, crew, JobSpec(model="m", dataset="d"), {}, asyncio.Lock())
    for now in range(60):
        crew.watch.sight.look(float(now), ["w3"], stepped=False, all_step=False)
    wanted = members._needs_generation(store.workers(job))
    assert wanted.startswith("released from ") is is_alone
