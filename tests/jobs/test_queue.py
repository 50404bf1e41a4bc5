"""The queue: nobody is overtaken on what he could use, nobody is lost, and nobody gets it twice."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sollol_tui.jobs import queue
from sollol_tui.jobs import submit as submitting
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.leases import TakenError
from sollol_tui.jobs.occupied import Occupation, occupy
from sollol_tui.jobs.output import Output
from sollol_tui.jobs.planner import any_device
from sollol_tui.jobs.probe import Answers
from sollol_tui.jobs.queue import Turn, take_turn
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.submit import Prepared, submit
from sollol_tui.jobs.view import read_job
from sollol_tui.model.columns import jobs_in_order
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState
from tests.jobs.bench import DEADLINE_S, Bench, until
from tests.jobs.samples import INVENTORY, add_job, facts, plan

LONG = {"SOLLOL_STUB_STEPS": "100000"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    with Store(home) as opened:
        yield opened


def enqueue(store: Store, *hosts: str) -> str:
    """A job that waits for one of the hosts, or all of them."""
    return store.add_job(
        spec=JobSpec(model="m", dataset="rows.jsonl"),
        plan=plan(*hosts),
        inventory=INVENTORY,
        model="m",
        dataset="rows.jsonl",
        name="tiny",
        output_dir=lambda job: f"out/{job}",
        claims=[f"host {host}" for host in hosts],
    )


def test_nobody_is_overtaken_on_what_he_could_use_and_others_go_ahead(store: Store) -> None:
    first, second, third = enqueue(store, "w1", "w2"), enqueue(store, "w2"), enqueue(store, "w3")
    with pytest.raises(TakenError, match=f"host w2 goes to {first} first"):
        take_turn(store, second, plan("w2"))
    assert store.leases.held() == {}
    take_turn(store, third, plan("w3"))
    take_turn(store, first, plan("w1"))
    take_turn(store, second, plan("w2"))  # the first has what it wanted
    assert store.leases.held() == {"host w3": third, "host w1": first, "host w2": second}
    assert {store.job(job).state for job in (first, second, third)} == {JobState.PLANNING}


def test_a_claim_on_a_host_of_which_nothing_is_known_covers_its_gpus(store: Store) -> None:
    first, second = enqueue(store), enqueue(store)
    store.leases.claim(first, [any_device("w1")])
    with pytest.raises(TakenError, match=f"goes to {first} first"):
        take_turn(store, second, plan("w1"))


def test_a_turn_is_all_or_nothing(store: Store) -> None:
    take_turn(store, enqueue(store, "w2"), plan("w2"))
    job = enqueue(store, "w1", "w2")
    with pytest.raises(TakenError, match="host w2 is in use by"):
        take_turn(store, job, plan("w1", "w2"))
    assert list(store.leases.held()) == ["host w2"]
    assert store.job(job).state is JobState.QUEUED
    assert store.workers(job) == []


def test_who_comes_back_into_the_queue_comes_last(store: Store) -> None:
    first, second = enqueue(store, "w1"), enqueue(store, "w1")
    store.move_job(first, JobState.PAUSED)
    take_turn(store, second, plan("w1"))  # who rests keeps nobody waiting
    third = enqueue(store, "w1")
    store.move_job(first, JobState.QUEUED)
    assert store.job(third).turn < store.job(first).turn
    store.move_job(second, JobState.FAILED)
    store.leases.claim(first, ["host w1"])
    with pytest.raises(TakenError):
        take_turn(store, first, plan("w1"))
    take_turn(store, third, plan("w1"))


def test_of_fifty_submits_at_once_none_is_lost_and_none_shares_a_device(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(submitting, "start_supervisor", lambda home, job: started.append(job))

    def prepared(number: int) -> Prepared:
        hosts = (f"w{number % 7}", f"w{(number + 1) % 7}")
        return Prepared(
            spec=JobSpec(model="m", dataset="rows.jsonl"),
            inventory=INVENTORY,
            plan=plan(*hosts),
            model="m",
            name=f"job-{number}",
            output=Output(template=f"out/{number}", folder=home.root.parent, name="x"),
            could_use=tuple(f"host {host}" for host in hosts),
        )

    def submit_one(number: int) -> str:
        with Store(home) as mine:
            return submit(mine, prepared(number))

    with ThreadPoolExecutor(25) as pool:
        jobs = list(pool.map(submit_one, range(50)))
    assert sorted(started) == sorted(set(jobs))
    with Store(home) as store:
        assert sorted(store.attended_jobs()) == sorted(jobs)
        states = Counter(store.job(job).state for job in jobs)
        held = Counter(store.leases.held().values())
        leased = [job for job in jobs if store.job(job).state is JobState.PLANNING]
        # All get their turn in the end, whoever is first.
        for _ in range(50):
            for job in store.attended_jobs():
                if store.job(job).state is JobState.PLANNING:
                    store.move_job(job, JobState.FAILED)
                    leased.append(job)
            for job in store.attended_jobs():
                number = int(store.job(job).output_dir.rpartition("/")[2])
                try:
                    take_turn(store, job, prepared(number).plan)
                except TakenError:
                    continue
    assert states.keys() == {JobState.PLANNING, JobState.QUEUED}
    assert 1 <= states[JobState.PLANNING] <= 3
    assert dict(held) == dict.fromkeys(held, 2)
    assert set(leased) == set(jobs)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Event]:
    """Only news make a queued job look again; w1 answers once each of these events is set."""
    before: list[asyncio.Event] = []

    async def answered(*anything: object) -> Answers[HostFacts]:
        for event in before:
            await event.wait()
        return Answers(said={"w1": facts()})

    monkeypatch.setattr(queue, "LOOK_AGAIN_S", 1e6)
    monkeypatch.setattr(queue, "ask", answered)
    return before


async def test_what_is_freed_while_hosts_are_asked_is_not_missed(
    home: Home, store: Store, asked: list[asyncio.Event]
) -> None:
    other = add_job(store, "host w1")
    job, answer = enqueue(store, "w1"), asyncio.Event()
    asked.append(answer)
    with Store(home) as own:
        waiting = asyncio.create_task(Turn(own, job).wait())
        await asyncio.sleep(0)  # it has looked, and asks
        store.leases.free(other)
        answer.set()
        async with asyncio.timeout(DEADLINE_S):
            await waiting
    assert store.job(job).state is JobState.PLANNING


async def test_a_queued_job_notices_at_once_that_an_errand_has_left_its_host(
    home: Home, store: Store, asked: list[asyncio.Event]
) -> None:
    job = enqueue(store, "w1")
    errand = Occupation(
        id="e-1", title="the merge of j-1", resources=("host w1",), host="w1", run_dir="", nonce=""
    )
    with Store(home) as own:
        with occupy(home.root, errand):
            waiting = asyncio.create_task(Turn(own, job).wait())
            async with asyncio.timeout(DEADLINE_S):
                while "the merge of j-1" not in read_job(store, job).reason:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(DEADLINE_S):  # its process has gone, without a word
            await waiting
    assert store.job(job).state is JobState.PLANNING


def test_a_queued_job_says_what_it_waits_for_and_one_that_rested_goes_on_behind_the_others(
    bench: Bench,
) -> None:
    quick = {"SOLLOL_STUB_STEPS": "5"}
    first = bench.submit(env=LONG, workers="one")
    head, second, third = [bench.submit(env=quick, workers="one") for _ in range(3)]
    beside = bench.submit(env=quick, workers="two")
    assert bench.view(head).reason == f"#1: waits for one ({first})"
    assert bench.view(second).reason == f"#2: after {head}"
    queued = [job.id for job in jobs_in_order(bench.client.list_jobs()) if job.queue_place]
    assert queued == [head, second, third]
    bench.reaches(beside, JobState.DONE)
    assert bench.view(head).state is JobState.QUEUED
    bench.client.cancel_job(head)  # at once: nothing of it runs
    assert bench.view(head).state is JobState.CANCELLED
    until(lambda: bench.view(second).reason == f"#1: waits for one ({first})", "it says so")

    bench.client.pause_job(second)
    assert bench.view(second).state is JobState.PAUSED
    assert bench.view(second).reason == "before its first step"
    bench.client.resume_job(second)
    until(lambda: bench.view(second).reason == f"#2: after {third}", "it says what it waits for")
    bench.client.cancel_job(first, now=True)
    done = bench.reaches(second, JobState.DONE)
    assert bench.reaches(third, JobState.DONE).ended_at < done.ended_at
    assert bench.left(first) == bench.left(second) == bench.left(third) == []


def test_a_waiting_supervisor_that_is_killed_is_replaced_and_the_job_gets_its_turn(
    bench: Bench,
) -> None:
    first = bench.submit(env=LONG, workers="one,two")
    second = bench.submit(env={"SOLLOL_STUB_STEPS": "5"}, workers="2")
    bench.kill_supervisor(second)
    until(lambda: bench.client.revive() == [second], "it is started again")
    assert "waits for one" in bench.view(second).reason
    bench.takes_steps(first)
    bench.client.pause_job(first)
    bench.reaches(second, JobState.DONE)
    bench.reaches(first, JobState.PAUSED)
