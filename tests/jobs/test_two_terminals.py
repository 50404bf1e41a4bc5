"""Two terminals that ask for different things of one job at the same moment: somebody is first, the
other is told, and the job is what the last word made it."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from sollol_tui.jobs import requests
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import JobError
from sollol_tui.model.states import UNLEASED, JobState
from tests.jobs.bench import Bench
from tests.jobs.samples import INVENTORY, add_job

ROUNDS = 50  # of four words each: two hundred in all
WORDS: dict[str, Callable[[Store, str], object]] = {
    "cancel": lambda store, job: requests.ask_to_cancel(store, job, now=False),
    "cancel now": lambda store, job: requests.ask_to_cancel(store, job, now=True),
    "pause": requests.ask_to_pause,
    "resume": lambda store, job: requests.resume(store, job, INVENTORY, None),
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def terminals(home: Home) -> Iterator[tuple[Store, Store]]:
    with Store(home) as one, Store(home) as two:
        yield one, two


def test_two_hundred_words_of_two_terminals_leave_no_job_in_between(
    terminals: tuple[Store, Store],
) -> None:
    chance = random.Random(13)
    told = 0
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            job = add_job(terminals[0], *(["host w1"] if number % 2 else []))
            orders = [[chance.choice([*WORDS]) for _ in range(2)] for _ in terminals]
            both = Barrier(2)

            def speak(
                store: Store, words: list[str], job: str = job, both: Barrier = both
            ) -> list[str]:
                both.wait()
                return [answer for word in words if (answer := ask(store, job, word))]

            for answers in pool.map(speak, terminals, orders):
                told += len(answers)
                assert all(job in answer and "\n" not in answer for answer in answers)
            store = terminals[0]
            state, asked = store.job(job).state, store.open_requests(job)
            assert len(asked) == len(set(asked))
            held = [name for name, holder in store.leases.held().items() if holder == job]
            if state in UNLEASED:
                assert (held, asked) == ([], [])
            else:
                assert held == ["host w1"]
                store.move_job(job, JobState.FAILED, "the next round")
    assert told > 0


def ask(store: Store, job: str, word: str) -> str:
    """What the terminal shows when its word was not taken."""
    try:
        WORDS[word](store, job)
    except JobError as error:
        return str(error)
    return ""


def test_a_job_that_both_cancel_while_it_starts_is_cancelled_once(bench: Bench) -> None:
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "100000"})
    bench.reaches(job, JobState.STARTING, JobState.RUNNING)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(bench.client.cancel_job, job, now=now) for now in (False, True) * 2]
    assert [one.result() for one in asked] == [None] * 4
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []
    with pytest.raises(JobError, match=f"{job} is cancelled already"):
        bench.client.cancel_job(job)
