"""What events add up to: the same for every reader, and nobody speaks for others."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollol_tui.jobs.progress import Progress
from sollol_tui.model.events import Event, decode
from tests.jobs.samples import line, plan

PEER = "Traceback (most recent call last):\nRuntimeError: Connection closed by peer [10.0.0.1]"
CAUSE = "Traceback (most recent call last):\nImportError: libstub.so.1"


def event(kind: str, slot: int | None, **data: Any) -> Event:
    read = decode(line(kind, slot, **data))
    assert read is not None
    return read


def progress() -> Progress:
    return Progress(plan=plan(), generation=1)


def test_all_are_ready_when_every_slot_has_said_so() -> None:
    seen = progress()
    seen.apply("w1", event("ready", 0, world_size=2))
    assert not seen.all_ready
    seen.apply("w2", event("ready", 1, world_size=2))
    assert (seen.all_ready, seen.world_problem()) == (True, None)


def test_a_host_speaks_only_for_its_own_slots() -> None:
    seen = progress()
    seen.apply("w1", event("ready", 1, world_size=2))
    seen.apply("w1", event("finished", 1))
    seen.apply("w2", event("step", 0, step=9, loss=0.0))
    seen.apply("w1", event("failed", 1, error="no"))
    seen.apply("w1", event("ready", 7, world_size=2))
    assert seen == progress()


def test_only_the_first_slot_tells_steps() -> None:
    seen = progress()
    seen.apply("w2", event("step", 1, step=9, loss=0.0))
    assert seen.figures() == {}


def test_an_agent_tells_only_of_ranks_of_its_own_host() -> None:
    seen = progress()
    seen.apply("w1", event("rank_exited", None, of_slot=1, code=1, reason="died"))
    assert seen.failure is None


def test_who_is_stuck_is_known_until_it_goes_on_or_ends() -> None:
    seen = progress()
    seen.apply("w1", event("stuck", None, of_slot=0, reason="no step for 12 s; it computes"))
    seen.apply("w1", event("waiting", None, of_slot=1, reason="not its own"))
    assert seen.stuck == {0: "rank 0: no step for 12 s; it computes"}
    seen.apply("w1", event("unstuck", None, of_slot=0))
    assert seen.stuck == {}
    seen.apply("w2", event("waiting", None, of_slot=1, reason="it waits for the other ranks"))
    seen.apply("w2", event("rank_exited", None, of_slot=1, code=-9, reason="killed"))
    assert seen.stuck == {}


def test_a_worker_tells_that_its_disk_is_full() -> None:
    seen = progress()
    seen.apply("w2", event("disk_full", None, reason="the disk of w2 is full\x1b[31m"))
    assert seen.full == {"w2": "the disk of w2 is full"}
    assert seen.failure is None  # it pauses, it does not fail


def test_another_generation_is_no_news() -> None:
    seen = progress()
    seen.apply("w1", event("failed", 0, error="old", generation=0))
    seen.apply("w1", event("ready", 0, generation=2, world_size=2))
    assert seen == progress()


def test_a_rank_in_another_world_is_named() -> None:
    seen = progress()
    seen.apply("w1", event("ready", 0, world_size=2))
    seen.apply("w2", event("ready", 1, world_size=1))
    problem = seen.world_problem()
    assert problem is not None
    assert problem.host == "w2"
    assert problem.reason.startswith("rank 1 sees a world of 1, the plan has 2")


def test_the_traceback_that_tells_the_cause_wins_over_those_that_lost_a_peer() -> None:
    seen = progress()
    seen.apply("w1", event("failed", 0, error="peer", traceback=PEER))
    assert (seen.failure.host if seen.failure else "", seen.cause_is_known) == ("w1", False)
    seen.apply("w2", event("rank_exited", None, of_slot=1, code=1, reason="left with 1",
                           traceback=CAUSE))  # fmt: skip
    seen.apply("w1", event("failed", 0, error="later", traceback=CAUSE))
    assert seen.failure is not None
    assert (seen.failure.host, seen.failure.traceback) == ("w2", CAUSE)
    assert seen.cause_is_known


def test_a_failure_that_its_sentence_tells_needs_no_traceback_and_is_still_the_cause() -> None:
    seen = progress()
    seen.apply("w1", event("failed", 0, error="peer", traceback=PEER, foreseen=True))
    told = event("failed", 1, error="raise max_length", traceback=CAUSE, foreseen=True)
    seen.apply("w2", told)
    assert seen.failure is not None
    assert (seen.failure.reason, seen.failure.traceback) == ("rank 1: raise max_length", "")
    assert seen.cause_is_known


def test_a_host_that_fell_silent_is_the_cause_before_peers_that_lost_it() -> None:
    seen = progress()
    seen.apply("w1", event("failed", 0, error="peer", traceback=PEER))
    reason = PEER.splitlines()[-1]
    seen.apply("w1", event("agent_finished", None, outcome="failed", reason=reason))
    seen.lose_agent("w2")
    assert seen.failure is not None
    assert (seen.failure.host, seen.cause_is_known) == ("w2", False)


def test_an_agent_that_said_its_last_word_is_not_lost() -> None:
    seen = progress()
    seen.apply("w1", event("agent_finished", None, outcome="done"))
    seen.lose_agent("w1")
    assert seen.failure is None


def test_what_a_failure_says_is_clean() -> None:
    seen = progress()
    seen.apply("w1", event("failed", 0, error="a\x1b[2Jb", traceback="x\x1b]0;t\x07\n\x1b[1my"))
    assert seen.failure is not None
    assert (seen.failure.reason, seen.failure.traceback) == ("rank 0: ab", "x\ny")


def test_weights_that_differ_within_a_class_name_the_host() -> None:
    seen = progress()
    for slot, host in enumerate(("w1", "w2")):
        seen.apply(host, event("ready", slot, world_size=2, device="cpu", torch="2.13"))
        seen.apply(host, event("finished", slot, digest=f"{slot}"))
    problem = seen.weights_problem()
    assert problem is not None
    assert (problem.host, problem.reason) == ("w2", "rank 1 ended with other weights than rank 0")


def test_steps_never_go_back() -> None:
    seen = progress()
    for step in (1, 3, 2):
        seen.apply("w1", event("step", 0, step=step, loss=5.0 - step, samples_done=step * 16))
    assert (seen.figures()["step"], seen.figures()["samples_done"]) == (3, 48)
    assert seen.first_loss == 4.0


@pytest.mark.parametrize(
    "lie",
    [
        {"step": 11}, {"step": 2**52}, {"samples_done": 161}, {"loss": 1e299}, {"loss": -1e7},
        {"eta_s": -1e299}, {"eta_s": 1e299}, {"samples_per_s": -1}, {"world_size": 5000},
        {"world_size": 0},
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_is_no_news_and_hides_no_other(lie: dict[str, Any]) -> None:
    seen = progress()
    seen.apply("w1", event("step", 0, step=1, loss=4.0))
    seen.apply("w1", event("step", 0, **{"step": 2, "loss": 3.0} | lie))
    assert (seen.figures()["step"], seen.figures()["loss"]) == (1, 4.0)
    seen.apply("w1", event("step", 0, step=10, loss=2.0, samples_done=160, max_steps=2**52))
    assert (seen.figures()["step"], seen.figures()["samples_done"]) == (10, 160)
    assert "max_steps" not in seen.figures()


KINDS = ["ready", "step", "finished", "stopped", "failed", "rank_exited", "agent_finished", "x"]
EVENTS = st.builds(
    lambda kind, slot, data: (kind, slot, data),
    st.sampled_from(KINDS),
    st.sampled_from([None, 0, 1, 2]),
    st.dictionaries(
        st.sampled_from(["step", "loss", "world_size", "code", "of_slot", "outcome", "traceback"]),
        st.sampled_from([0, 1, 2.5, "x", None, True, [1], "failed", 10**30]),
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["w1", "w2", "w3"]), EVENTS), max_size=12))
def test_a_replay_gives_the_same_and_no_event_crashes(
    told: list[tuple[str, tuple[str, int | None, dict[str, Any]]]],
) -> None:
    first, second = progress(), progress()
    for seen in (first, second):
        for host, (kind, slot, data) in told:
            seen.apply(host, event(kind, slot, **data))
            assert isinstance(seen.figures(), dict)
            seen.world_problem(), seen.weights_problem(), seen.failure, seen.said
    assert first == second


def elastic() -> Progress:
    seen = Progress(plan=replace(plan("w1", "w2", "w3"), engine="elastic"), generation=1)
    for slot, host in enumerate(("w1", "w2", "w3")):
        seen.apply(host, event("ready", slot, world_size=3))
    return seen


def test_an_elastic_job_goes_on_until_its_last_worker_is_lost() -> None:
    seen = elastic()
    seen.apply("w2", event("failed", 1, error="no memory"))
    assert (seen.failure, seen.lost) == (None, {})  # its agent may start it again
    seen.apply("w2", event("agent_finished", None, outcome="failed", reason="no memory"))
    seen.lose_agent("w1")
    assert seen.failure is None
    assert seen.lost.keys() == {"w1", "w2"}
    seen.lose_agent("w3")
    assert seen.failure is not None
    assert (seen.failure.host, seen.failure.reason) == ("w2", "rank 1: no memory")


def test_an_elastic_job_that_has_not_begun_fails_with_its_first_lost_worker() -> None:
    seen = elastic()
    del seen.ready[2]
    assert seen.failure is None
    seen.lose_agent("w3")
    assert seen.failure is not None
    assert seen.failure.host == "w3"


def test_whoever_is_first_among_the_elastic_tells_steps_and_leaves_the_result() -> None:
    seen = elastic()
    seen.apply("w1", event("step", 0, step=1, loss=2.0, world_size=3))
    seen.apply("w2", event("step", 1, step=2, loss=1.0, world_size=2))
    assert seen.figures()["world_size"] == 2
    seen.apply("w3", event("finished", 2, result=None))
    assert not seen.is_complete
    seen.apply("w2", event("finished", 1, result="/runs/result"))
    assert (seen.is_complete, seen.result_host) == (True, "w2")
