"""Notes of workers and of the coordinator, told in sentences."""

from typing import Any

import pytest

from sollol_tui.model.happenings import Note, occasion, tell


def note(kind: str, *, key: str = "k", host: str = "", **data: Any) -> Note:
    slot = data.pop("slot", None)
    return Note(key=key, job="j-1", kind=kind, seen_at=2.0, at=1.0, host=host, slot=slot, data=data)


def transition(new: str, reason: str = "", old: str | None = "running") -> Note:
    return note("transition", old=old, new=new, reason=reason)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (transition("queued", "submitted", old=None), "is submitted"),
        (transition("queued", "waits for w1"), "waits in the queue: waits for w1"),
        (transition("paused", "at step 57"), "is paused at step 57"),
        (transition("failed", "w1: boom"), "failed: w1: boom"),
        (transition("hovering", "new"), "is hovering: new"),
        (note("request", what="kill"), "somebody asked to cancel it at once"),
        (note("request", host="w3", what="join"), "is asked to join"),
        (note("worker", host="w2", old="training", new="lost", reason="gone"), "is lost: gone"),
        (note("worker", host="w2", old="lost", new="provisioning"), "is there again"),
        (
            note("sight", host="w2", reason="timeout"),
            "is out of sight: timeout; what runs there goes on",
        ),
        (note("sight", host="w2", reason=""), "is seen again"),
        (note("rank_started", host="w1", of_slot=1, of_attempt=2), "rank 1 is started again"),
        (note("failed", host="w1", slot=0, error="boom"), "rank 0 failed: boom"),
        (note("stuck", host="w1", of_slot=0, reason="no step"), "rank 0 is stuck: no step"),
        (
            note("agent_finished", host="w1", outcome="done", leftover_processes=2),
            "2 processes of it are left",
        ),
        (note("novelty", host="w1", slot=3, reason="tides"), "rank 3: novelty: tides"),
    ],
)
def test_what_happened_is_one_sentence(said: Note, sentence: str) -> None:
    assert [each.sentence for each in tell([said])] == [sentence]


@pytest.mark.parametrize(
    "said",
    [
        note("rank_exited", host="w1", of_slot=0, code=0),
        note("speed", host="w1", slot=0, samples_per_s=3.0),  # figures of a newer version
        note("evaluation", host="w1", slot=0, step="x"),
        note("worker", host="w1", old="ready", new="training"),
    ],
)
def test_what_is_no_news_is_left_out(said: Note) -> None:
    assert list(tell([said])) == []


def test_the_same_word_of_several_is_told_once() -> None:
    notices = [note("notice", host=host, message="packing is off") for host in ("w1", "w2")]
    assert [each.host for each in tell(notices)] == ["w1"]
    failed = note("failed", host="w1", slot=0, error="boom")
    exited = note("rank_exited", host="w1", of_slot=0, of_attempt=0, code=1, reason="boom")
    other = note("rank_exited", host="w2", of_slot=1, of_attempt=0, code=-9, reason="killed")
    assert [each.sentence for each in tell([failed, exited, other])] == [
        "rank 0 failed: boom",
        "rank 1 ended: killed",
    ]


def test_what_a_host_says_steers_no_terminal() -> None:
    (happening,) = tell([note("notice", host="w1", message="a\x1b]0;x\x07b\nc\u202e")])
    assert happening.sentence == "ab c"


def test_a_bell_rings_for_ends_and_losses_only() -> None:
    notes = [
        transition("done"),
        transition("failed", "boom"),
        transition("cancelled"),
        note("worker", host="w2", old="training", new="lost", reason="gone"),
        note("worker", host="w2", old="lost", new="provisioning"),
        note("stuck", host="w1", of_slot=0, reason="no step"),
    ]
    heard = [occasion(happening) for happening in tell(notes)]
    assert heard == ["done", "failed", None, "worker_lost", None, "stuck"]
