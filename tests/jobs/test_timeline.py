"""The coordinator's own words and those of all hosts, merged as they were heard."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sollol_tui.jobs import events
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.timeline import read_timeline
from sollol_tui.model.events import decode
from sollol_tui.model.states import JobState, WorkerState
from tests.jobs.samples import add_job, line


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(open_home(tmp_path / "home")) as opened:
        yield opened


def said(store: Store, job: str, host: str, *lines: bytes) -> None:
    told = [event for each in lines if (event := decode(each)) is not None]
    assert len(told) == len(lines)
    events.add_events(store, job, host, "events.0.1.jsonl", list(enumerate(told)), len(told))


def test_transitions_requests_and_events_stand_in_one_order(store: Store) -> None:
    job = add_job(store, "host w1", "host w2")
    said(store, job, "w1", line("ready", 0, device="cpu", world_size=2), line("loading", 0))
    for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
        store.move_job(job, state)
    said(store, job, "w2", line("step", 1, step=3), line("failed", 1, error="boom"))
    store.add_request(job, "cancel")
    store.move_job(job, JobState.STOPPING)
    assert [(each.host, each.sentence) for each in read_timeline(store, job)] == [
        ("", "is submitted"),
        ("", "has its workers"),
        ("w1", "rank 0 is ready: cpu, world size 2"),
        ("", "prepares its workers"),
        ("", "starts its ranks"),
        ("", "trains"),
        ("w2", "rank 1 failed: boom"),
        ("", "somebody asked to cancel it"),
        ("", "is told to stop"),
    ]
    other = add_job(store, name="other")
    assert {each.job for each in read_timeline(store)} == {job, other}
    assert [each.kind for each in read_timeline(store, other)] == ["transition"]
    assert len({each.key for each in read_timeline(store)}) == len(read_timeline(store))


def test_a_lost_worker_is_noted_with_its_reason_and_its_return(store: Store) -> None:
    job = add_job(store, "host w1", "host w2")
    for state in (WorkerState.PROVISIONING, WorkerState.LOST, WorkerState.PROVISIONING):
        store.move_worker(job, "w2", state, "no route" if state is WorkerState.LOST else "")
    kinds = [(each.host, each.sentence) for each in read_timeline(store, job, ["worker"])]
    assert kinds == [("w2", "is lost: no route"), ("w2", "is there again")]


def test_the_coordinators_notes_never_take_each_others_place(store: Store) -> None:
    jobs = [add_job(store), add_job(store)]
    for number in range(3):
        for job in jobs:
            events.note(store, job, "notice", message=f"note {number}")
    for job in jobs:
        assert [e.data["message"] for e in events.read_events(store, job, ["notice"])] == [
            *("note 0", "note 1", "note 2"),
        ]
