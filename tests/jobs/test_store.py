"""The state: one way to change a job, leases all or nothing, and nothing lost to a crowd."""

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.records import dump, load
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import JobError, NotFoundError, StateError
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import TERMINAL, JobState, WorkerState, job_may_become
from tests.jobs.samples import add_job, plan

WAY = (
    *(JobState.PLANNING, JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING),
    *(JobState.FINISHING, JobState.DONE),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    with Store(home) as opened:
        yield opened


def transitions(store: Store, job: str) -> list[tuple[str | None, str]]:
    rows = store.connection.execute("SELECT old, new FROM transitions WHERE job = ?", (job,))
    return [(row["old"], row["new"]) for row in rows]


def test_a_job_goes_its_way_and_every_step_is_written_down(store: Store) -> None:
    job = add_job(store)
    for state in WAY:
        assert store.move_job(job, state)
        assert not store.move_job(job, state)  # a repeat is none
    way = [None, JobState.QUEUED, *WAY]
    assert transitions(store, job) == list(pairwise(way))
    assert store.live_jobs() == []


def test_a_job_is_told_from_another_of_the_same_id(store: Store) -> None:
    records = [store.job(add_job(store)) for _ in range(2)]
    assert [len(record.nonce) for record in records] == [32, 32]
    assert records[0].nonce != records[1].nonce


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(wishes=st.lists(st.sampled_from(JobState), max_size=8))
def test_no_order_of_wishes_breaks_the_table(store: Store, wishes: list[JobState]) -> None:
    job = add_job(store)
    for wish in wishes:
        before = store.job(job).state
        if wish is before:
            assert not store.move_job(job, wish)
        elif job_may_become(before, wish):
            assert store.move_job(job, wish)
        else:
            with pytest.raises(JobError, match=f"is {before} and cannot become {wish}"):
                store.move_job(job, wish)
            assert store.job(job).state is before
    for old, new in transitions(store, job)[1:]:
        assert old is not None
        assert job_may_become(JobState(old), JobState(new))


def test_nothing_but_move_job_writes_a_state() -> None:
    """But for a replay, which begins with a copy of a job as it was when it was made."""
    package = Path(__file__).parents[2] / "sollol_tui"
    writers = {
        path.name
        for path in package.rglob("*.py")
        if "UPDATE jobs SET state" in path.read_text()
        or "note_progress(job, state" in (path.read_text())
    }
    assert writers == {"store.py", "replay.py"}


def test_an_end_frees_what_the_job_held_and_answers_what_was_asked(store: Store) -> None:
    job = add_job(store, "host w1", "host w2")
    store.add_request(job, "cancel")
    assert store.leases.held() == {"host w1": job, "host w2": job}
    store.move_job(job, JobState.FAILED, "why")
    assert (store.leases.held(), store.open_requests(job)) == ({}, [])
    with pytest.raises(JobError, match="is failed already"):
        store.add_request(job, "cancel")


def test_leases_are_all_or_nothing(store: Store) -> None:
    first = add_job(store, "host w2")
    with pytest.raises(JobError, match=f"host w2 is in use by {first}; wait for it"):
        add_job(store, "host w1", "host w2")
    assert store.leases.held() == {"host w2": first}
    assert store.live_jobs() == [first]
    with pytest.raises(JobError):
        store.leases.take(add_job(store, "host w9"), ["port a:1", "host w2"])
    assert "port a:1" not in store.leases.held()


def test_fifty_submits_at_once_never_share_a_resource(home: Home) -> None:
    def submit(number: int) -> str | None:
        with Store(home) as mine:
            try:
                return add_job(mine, f"host w{number % 7}", f"host w{(number + 1) % 7}")
            except JobError:
                return None

    with ThreadPoolExecutor(25) as pool:
        jobs = [job for job in pool.map(submit, range(50)) if job]
    with Store(home) as store:
        held = Counter(store.leases.held().values())
        assert sorted(store.live_jobs()) == sorted(jobs)
    assert 1 <= len(jobs) <= 3
    assert dict(held) == dict.fromkeys(jobs, 2)


def test_processes_that_make_the_state_at_the_same_moment_all_can(home: Home) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom sollol_tui.jobs.home import open_home\n"
        "from sollol_tui.jobs.store import Store\nfrom tests.jobs.samples import add_job\n"
        "sys.stdin.readline()\nwith Store(open_home()) as store: print(add_job(store))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"SOLLOL_HOME": str(home.root)},
        )
        for _ in range(8)
    ]
    said = [child.communicate("go\n", timeout=60)[0].strip() for child in children]
    with Store(home) as store:
        assert sorted(store.live_jobs()) == sorted(said)


def test_the_same_request_twice_is_one(store: Store) -> None:
    job = add_job(store)
    for kind in ("cancel", "cancel", "kill", "cancel"):
        store.add_request(job, kind)
    assert store.open_requests(job) == ["cancel", "kill"]


def test_a_worker_takes_only_steps_of_its_table(store: Store) -> None:
    job = add_job(store, "host w1")
    store.move_worker(job, "w1", WorkerState.TRAINING)
    assert store.workers(job)[0].state is WorkerState.PLANNED
    store.move_worker(job, "w1", WorkerState.PROVISIONING)
    store.move_worker(job, "nobody", WorkerState.PROVISIONING)
    assert [w.state for w in store.workers(job)] == [WorkerState.PROVISIONING, WorkerState.PLANNED]


def test_a_plan_with_fewer_workers_gives_out_new_slots(store: Store) -> None:
    job = add_job(store, "host w1", "host w2")
    store.note_plan(job, plan("w2"))
    assert {w.host: (w.slots, w.share) for w in store.workers(job)}["w2"] == ((0,), 1.0)
    assert {w.host: w.slots for w in store.workers(job)}["w1"] == ()


def test_a_job_is_found_by_id_start_or_name(store: Store) -> None:
    first, second = add_job(store), add_job(store, name="other")
    assert store.find_job(first) == first
    assert store.find_job(first.removeprefix("j-")) == first
    assert store.find_job("other") == second
    with pytest.raises(
        NotFoundError, match=r"no job 'nothing'; the newest are .*; see: sollol jobs"
    ):
        store.find_job("nothing")
    with pytest.raises(NotFoundError):
        store.find_job("")


def test_a_name_is_meant_before_the_start_of_an_id_and_a_start_must_be_of_one_job(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(("j-abc1", "j-abc2", "j-0123", "j-4567"))
    monkeypatch.setattr(Store, "_free_id", lambda store: next(ids))
    for name in ("tiny", "tiny", "abc", "j-012"):
        add_job(store, name=name)
    assert store.find_job("tiny") == "j-abc2"
    assert store.find_job("abc") == "j-0123"
    assert store.find_job("j-012") == "j-4567"
    assert [store.find_job(start) for start in ("012", "j-456")] == ["j-0123", "j-4567"]
    with pytest.raises(NotFoundError, match="'j-abc' begins j-abc2, j-abc1; say which"):
        store.find_job("j-abc")
    for short in ("01", "j-", "j-4"):
        with pytest.raises(NotFoundError, match=f"no job '{short}'"):
            store.find_job(short)


def test_what_a_newer_sollol_added_to_a_stored_spec_is_passed_over() -> None:
    spec = JobSpec(model="m", dataset="d")
    raw = json.loads(dump(spec))
    raw["novel"] = raw["lora"]["novel"] = 1
    assert load(JobSpec, json.dumps(raw)) == spec


def test_a_state_of_a_newer_sollol_is_left_alone(home: Home) -> None:
    Store(home).close()
    with sqlite3.connect(home.database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="was written by a newer sollol; upgrade this one"):
        Store(home)


def test_a_file_that_is_no_state_is_named(home: Home) -> None:
    home.database.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateError, match=r"state\.db cannot be read: .*; move that file away"):
        Store(home)


def test_damage_found_later_is_named_too(home: Home) -> None:
    with Store(home) as store:
        add_job(store)
    whole = home.database.read_bytes()
    home.database.write_bytes(whole[:100] + b"\xaa" * (len(whole) - 100))
    with pytest.raises(StateError, match=r"state\.db cannot be read: "), Store(home) as store:
        store.live_jobs()


def test_a_busy_state_is_not_called_broken(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sollol_tui.jobs.database.BUSY_TIMEOUT_S", 0.05)
    busy = pytest.raises(StateError, match="is busy")
    with Store(home) as other, store.transaction(), busy as refusal:
        add_job(other)
    assert "move that file away" not in str(refusal.value)


def test_the_state_is_private(home: Home, store: Store) -> None:
    add_job(store)
    assert home.root.stat().st_mode & 0o777 == 0o700
    for path in home.root.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_what_others_write_moves_the_version(home: Home, store: Store) -> None:
    before = store.version()
    with Store(home) as other:
        add_job(other)
    assert store.version() > before


def test_terminal_states_are_those_without_a_live_job(store: Store) -> None:
    for end in TERMINAL - {JobState.DONE, JobState.CANCELLED}:
        store.move_job(add_job(store), end)
    assert store.live_jobs() == []
