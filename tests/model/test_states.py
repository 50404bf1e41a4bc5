"""The tables of states: nothing is a trap, and an end is an end."""

from sollol_tui.model.states import (
    TERMINAL,
    JobState,
    WorkerState,
    job_may_become,
    worker_may_become,
)


def reachable(start: JobState) -> set[JobState]:
    found, new = set(), {start}
    while new:
        found |= new
        new = {b for a in new for b in JobState if job_may_become(a, b)} - found
    return found


def test_every_live_state_has_an_exit_to_every_end() -> None:
    for state in JobState:
        if state not in TERMINAL:
            assert job_may_become(state, JobState.FAILED)
            assert reachable(state) >= {JobState.FAILED, JobState.CANCELLED}
    assert reachable(JobState.QUEUED) == set(JobState)


def test_an_end_is_final() -> None:
    assert {state for state in JobState if state.is_terminal} == TERMINAL
    for end in TERMINAL:
        assert not any(job_may_become(end, state) for state in JobState)


def test_no_state_follows_itself() -> None:
    assert not any(job_may_become(state, state) for state in JobState)
    assert not any(worker_may_become(state, state) for state in WorkerState)


def test_a_stopping_job_does_not_run_again() -> None:
    assert reachable(JobState.STOPPING) == {JobState.STOPPING, *TERMINAL} - {JobState.DONE}


def test_a_worker_can_always_leave_and_may_come_back() -> None:
    for state in set(WorkerState) - {WorkerState.GONE, WorkerState.LEAVING}:
        assert worker_may_become(state, WorkerState.LEAVING)
    assert worker_may_become(WorkerState.GONE, WorkerState.PROVISIONING)
    assert not worker_may_become(WorkerState.GONE, WorkerState.LOST)
