"""Pause, resume, cancel and wait as a shell sees them. Nothing runs here: what a supervisor does is
in tests/jobs."""

import json
import re

import pytest

from sollol_tui.jobs.events import note
from sollol_tui.jobs.store import Store
from sollol_tui.model.spec import JobSpec, Mode
from sollol_tui.model.states import JobState
from tests.cli.shell import sollol
from tests.jobs.samples import INVENTORY, add_job


def rest(store: Store, job: str) -> None:
    """What its supervisor does."""
    store.move_job(job, JobState.PAUSING)
    store.move_job(job, JobState.PAUSED, "at step 57")


def test_pause_is_asked_once_and_shown_as_it_is(store: Store, running: str) -> None:
    for _ in range(2):
        code, out, err = sollol("pause", running, "-d")
        assert (code, out) == (0, "")
        assert f"{running} is told to pause" in err
    assert store.open_requests(running) == ["pause"]
    assert "running" in sollol("status", "--cached")[1]  # until its workers say otherwise
    rest(store, running)
    code, out, err = sollol("pause", running)
    assert (code, out) == (0, f"{running} is paused at step 57; its workers are free\n")
    assert err == f"go on: sollol resume {running}\n"


def test_a_paused_job_is_shown_with_its_step(store: Store, running: str) -> None:
    rest(store, running)
    assert re.search(r"^state +paused: at step 57$", sollol("show", running)[1], re.MULTILINE)
    assert re.search(rf"^{running} +tiny +paused ", sollol("jobs")[1], re.MULTILINE)
    status = json.loads(sollol("status", "--cached", "--json")[1])
    assert [(j["state"], j["reason"], j["step"]) for j in status["jobs"]] == [
        ("paused", "at step 57", 57)
    ]
    assert [host["job"] for host in status["hosts"]] == [None, None]
    assert sollol("attach", running)[:2] == (
        *(0, f"[ 57/100] 0/160 samples  loss -  -  ETA -\n{running} is paused at step 57; "
        f"go on: sollol resume {running}\n"),
    )  # fmt: skip


def test_resume_puts_a_job_into_the_queue(store: Store, running: str) -> None:
    assert sollol("resume", running)[0] == 1
    rest(store, running)
    code, out, err = sollol("resume", running, "--workers", "w3")
    assert (code, out) == (5, "")
    assert "no host or group fits 'w3'" in err
    other = add_job(store)
    code, out, err = sollol("resume", running)
    assert (code, out) == (0, f"{running} is queued: #2: waits for its turn\n")
    assert err == f"follow: sollol attach {running}\n"
    assert "queued" in sollol("show", other)[1]
    assert store.job(running).same_hosts == ("w1", "w2")


def test_a_job_of_which_nothing_runs_is_cancelled_at_once(store: Store, running: str) -> None:
    queued = add_job(store)
    rest(store, running)
    for job in (queued, running):
        code, out, _ = sollol("cancel", job)
        assert code == 0
        assert out.startswith(f"{job} is cancelled, nothing of it is left on any host")
        assert store.job(job).state is JobState.CANCELLED
        assert sollol("pause", job)[0] == 1


def test_a_cancelled_job_says_how_its_newest_checkpoint_is_had(store: Store, running: str) -> None:
    note(store, running, "checkpoint", step=57)
    rest(store, running)
    out = sollol("cancel", running)[1]
    assert f"newest checkpoint stays on w1: sollol fetch {running} --checkpoint newest" in out


def test_a_cancelled_job_of_students_says_where_each_one_rests(store: Store, running: str) -> None:
    spec = JobSpec(model="m", dataset="d", mode=Mode.TEACHER_STUDENT)
    store.note_wish(running, spec=spec, inventory=INVENTORY, same_hosts=())
    note(store, running, "checkpoint", step=57)
    rest(store, running)
    out = sollol("cancel", running)[1]
    where = "each student's newest checkpoint stays on its own worker (w1, w2)"
    assert f"{where}: sollol fetch {running} --checkpoint newest --host HOST" in out


def test_wait_returns_with_the_exit_code_of_what_came(store: Store, running: str) -> None:
    assert sollol("wait", running, "--for", "running") == (
        *(0, f"{running} is running at step 57 of 100\n", ""),
    )
    assert sollol("wait", running, "--for", "step=57")[0] == 0
    code, out, err = sollol("wait", running, "--for", "step=58", "--timeout", "0.01")
    assert (code, out) == (124, "")
    assert f"{running} is running and not at step 58 after 0.01 s" in err
    rest(store, running)
    assert sollol("wait", running, "--for", "paused")[0] == 0
    assert sollol("wait", running, "--timeout", "0")[0] == 124
    store.move_job(running, JobState.CANCELLED)
    for wanted in ("done", "paused", "running", "step=58"):
        code, out, err = sollol("wait", running, "--for", wanted)
        assert (code, out, err) == (
            *(6, "", f"sollol: {running} is cancelled; sollol show {running}\n"),
        )
    assert sollol("wait", running, "--for", "step=57")[0] == 0  # it was there


@pytest.mark.parametrize("goal", ["", "queued", "step=", "step=0", "step=-1", "step=x", "step"])
def test_a_goal_that_is_none_is_a_mistake_of_usage(store: Store, running: str, goal: str) -> None:
    code, out, err = sollol("wait", running, "--for", goal)
    assert (code, out) == (2, "")
    assert "is not running, paused, done or step=N" in err


def test_readonly_pauses_and_resumes_nothing(store: Store, running: str) -> None:
    for command in ("pause", "resume"):
        code, _, err = sollol("--readonly", command, running)
        assert (code, err) == (1, "sollol: this command acts, and --readonly is on\n")
    assert store.open_requests(running) == []


def test_what_cannot_be_done_now_says_what_can(store: Store, running: str) -> None:
    said = sollol("resume", running)
    assert said == (1, "", f"sollol: {running} is running, not paused; follow it: sollol attach "
                    f"{running}\n")  # fmt: skip
    code, _, err = sollol("fetch", running)
    assert (code, "it brings its adapter by itself; before: sollol fetch" in err) == (5, True)
    store.move_job(running, JobState.FAILED, "over")
    assert f"run it once more: sollol rerun {running}" in sollol("resume", running)[2]
    assert f"is failed already; see: sollol show {running}" in sollol("-y", "cancel", running)[2]
    code, _, err = sollol("attach")
    assert (code, err) == (5, "sollol: no job is running; start one with: sollol train\n")
