"""Who is asked to join and to leave a job: each thing once, and nothing that would end it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.jobs.attended import Attended
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.records import load
from sollol_tui.jobs.requests import ask_to_join, ask_to_leave, ask_to_pause, resume
from sollol_tui.jobs.roster import membership_requests
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import JobError, NotFoundError
from sollol_tui.model.inventory import ConnectionKind, Host, Inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.states import JobState, WorkerState
from tests.jobs.samples import add_job, plan

INVENTORY = Inventory(file="inventory.yaml", hosts=tuple(Host(name=f"w{n}") for n in range(1, 5)))
LAPTOP = Host(name="laptop", connection=ConnectionKind.LOCAL)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(open_home(tmp_path / "home")) as opened:
        yield opened


def running(store: Store) -> str:
    """A job that trains on w1 and w2."""
    job = add_job(store)
    take_turn(store, job, plan("w1", "w2"))
    for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
        store.move_job(job, state)
    for host in ("w1", "w2"):
        for worker in (WorkerState.PROVISIONING, WorkerState.READY, WorkerState.TRAINING):
            store.move_worker(job, host, worker)
    return job


def asked(store: Store, job: str) -> list[tuple[str, str]]:
    return [(request.kind, request.host) for request in membership_requests(store, job)]


def test_the_same_asked_twice_is_asked_once(store: Store) -> None:
    job = running(store)
    for _ in range(2):
        assert ask_to_join(store, job, INVENTORY, "w3") == ["w3"]
        assert ask_to_leave(store, job, INVENTORY, "w1") == ["w1"]
    assert asked(store, job) == [("join", "w3"), ("leave", "w1")]


def test_a_join_and_a_leave_of_one_host_cancel_out(store: Store) -> None:
    job = running(store)
    ask_to_join(store, job, INVENTORY, "w3")
    assert ask_to_leave(store, job, INVENTORY, "w3") == ["w3"]
    ask_to_leave(store, job, INVENTORY, "w2")
    assert ask_to_join(store, job, INVENTORY, "w2") == ["w2"]
    assert asked(store, job) == []


def test_one_that_is_leaving_already_joins_again_when_it_has(store: Store) -> None:
    job = running(store)
    ask_to_leave(store, job, INVENTORY, "w2")
    store.move_worker(job, "w2", WorkerState.LEAVING)
    ask_to_join(store, job, INVENTORY, "w2")
    assert asked(store, job) == [("join", "w2")]


def test_left_out_the_host_is_the_coordinator(store: Store) -> None:
    job = running(store)
    assert ask_to_join(store, job, INVENTORY, None) == ["coordinator"]
    local = Inventory(file="inventory.yaml", hosts=(*INVENTORY.hosts, LAPTOP))
    assert ask_to_join(store, job, local, None) == ["laptop"]
    two = Inventory(file="x", hosts=(LAPTOP, Host(name="again", connection=ConnectionKind.LOCAL)))
    with pytest.raises(NotFoundError, match="laptop, again are all this machine"):
        ask_to_join(store, job, two, None)
    known = load(Inventory, store.job(job).inventory)
    assert known.host("laptop").connection is ConnectionKind.LOCAL  # the supervisor finds it there


def test_a_pattern_names_several_hosts(store: Store) -> None:
    job = running(store)
    assert ask_to_join(store, job, INVENTORY, "all") == ["w3", "w4"]
    with pytest.raises(JobError, match="'2' does not say which hosts"):
        ask_to_join(store, job, INVENTORY, "2")
    with pytest.raises(NotFoundError, match="no host or group fits 'w9'"):
        ask_to_join(store, job, INVENTORY, "w9")


def test_who_takes_part_already_or_not_at_all_is_told(store: Store) -> None:
    job = running(store)
    with pytest.raises(JobError, match=r"w1, w2 take part in j-.* already"):
        ask_to_join(store, job, INVENTORY, "w1,w2")
    with pytest.raises(NotFoundError, match="no host or group fits 'w4'"):
        ask_to_leave(store, job, INVENTORY, "w4")
    with pytest.raises(JobError, match=r"coordinator takes no part in .*; its workers are w1, w2"):
        ask_to_leave(store, job, INVENTORY, None)


def test_the_last_worker_cannot_leave(store: Store) -> None:
    job = running(store)
    with pytest.raises(JobError, match="would have no worker without w1, w2; pause or cancel it"):
        ask_to_leave(store, job, INVENTORY, "all")
    ask_to_leave(store, job, INVENTORY, "w1")
    with pytest.raises(JobError, match="would have no worker without w2"):
        ask_to_leave(store, job, INVENTORY, "w2")
    assert asked(store, job) == [("leave", "w1")]


def test_a_lost_worker_is_nobody_to_go_on_with_and_may_be_sent_away(store: Store) -> None:
    job = running(store)
    store.move_worker(job, "w1", WorkerState.LOST, "its agent is gone")
    with pytest.raises(JobError, match="would have no worker without w2"):
        ask_to_leave(store, job, INVENTORY, "w2")
    assert ask_to_leave(store, job, INVENTORY, "w1") == ["w1"]


def test_a_quarantined_worker_may_come_back_when_it_is_asked_to(store: Store) -> None:
    job = running(store)
    for state in (WorkerState.LOST, WorkerState.QUARANTINED):
        store.move_worker(job, "w2", state, "lost 3 times")
    store.note_worker(job, "w2", tries=3, tried_at=1.0)
    assert ask_to_join(store, job, INVENTORY, "w2") == ["w2"]
    [worker] = [worker for worker in store.workers(job) if worker.host == "w2"]
    assert (worker.tries, worker.tried_at) == (0, None)
    assert asked(store, job) == [("join", "w2")]


def test_where_nothing_runs_it_says_what_to_do(store: Store) -> None:
    job = add_job(store)
    with pytest.raises(JobError, match=r"j-.* is queued: .*; wait until it runs"):
        ask_to_join(store, job, INVENTORY, "w3")
    ask_to_pause(store, job)
    with pytest.raises(JobError, match=r"is paused: .*; choose its workers .*: sollol resume"):
        ask_to_leave(store, job, INVENTORY, "w1")
    other = running(store)
    store.move_job(other, JobState.FINISHING)
    with pytest.raises(JobError, match="is finishing already"):
        ask_to_join(store, other, INVENTORY, "w3")


def test_a_job_that_goes_on_knows_the_hosts_that_have_left_the_inventory(store: Store) -> None:
    """What lies there is still its own; no pattern means them any more."""
    job = running(store)
    for state in (JobState.PAUSING, JobState.PAUSED):
        store.move_job(job, state)
    resume(store, job, replace(INVENTORY, hosts=INVENTORY.hosts[1:]), "w2")
    crew = Attended(store.home, store, job).crew
    assert [worker.host.name for worker in crew.workers] == ["w1", "w2"]
    chosen = {host.name for host in select(crew.inventory, "all").hosts}
    assert chosen == {"w2", "w3", "w4"}
