"""The decoder of what workers say: any line is an event or nothing, never an exception."""

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sollol_tui.model.events import MAX_LINE_BYTES, decode

GOOD: dict[str, Any] = {
    "v": 1, "t": 1.5, "kind": "step", "job": "j-1", "host": "w1", "slot": 0, "attempt": 1,
    "generation": 1, "seq": 7, "loss": 2.5, "step": 3,
}  # fmt: skip


def line(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def test_an_event_is_read_and_keeps_what_a_newer_worker_adds() -> None:
    event = decode(line(novel=[1, 2]))
    assert event is not None
    assert (event.kind, event.slot, event.attempt, event.generation, event.seq) == (
        *("step", 0, 1, 1, 7),
    )
    assert (event.job, event.host) == ("j-1", "w1")
    assert event.data == {"loss": 2.5, "step": 3, "novel": [1, 2]}
    agent = decode(line(slot=None))
    assert agent is not None
    assert agent.slot is None


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2}, {"v": None}, {"v": "1"}, {"kind": ""}, {"kind": 5}, {"kind": "x" * 41},
        {"kind": "\ud800"}, {"kind": "a\nb"}, {"t": "now"}, {"t": float("nan")},
        {"t": float("inf")}, {"t": True}, {"slot": -1}, {"slot": "0"}, {"slot": True},
        {"attempt": 1.5}, {"attempt": None}, {"generation": 2**60}, {"seq": -1},
        {"job": None}, {"host": 5},
    ],
)  # fmt: skip
def test_a_line_without_what_every_event_has_is_none(changes: dict[str, Any]) -> None:
    assert decode(line(**changes)) is None


def test_a_number_that_is_none_is_not_one() -> None:
    values = {"a": float("nan"), "b": float("inf"), "c": True, "d": "1", "e": 10**400, "f": [1]}
    event = decode(line(**values))
    assert event is not None
    for key in (*values, "absent"):
        assert event.number(key) is None
        assert event.count(key) is None
    assert (event.number("loss"), event.count("step"), event.count("loss")) == (2.5, 3, None)


def test_a_gigantic_or_deep_line_is_dropped_at_once() -> None:
    began = time.monotonic()
    assert decode(b'{"v":1,' + b" " * MAX_LINE_BYTES + b"}") is None
    assert decode(b"[" * 200_000) is None
    assert decode(b'{"v":1,"t":' + b"9" * 100_000 + b"}") is None
    assert time.monotonic() - began < 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"\xff\xfe")
@example(b"null")
def test_no_line_crashes_the_decoder(raw: bytes) -> None:
    decode(raw)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*GOOD, "code", "world_size", "text"]), JSON))
def test_an_event_with_odd_fields_is_harmless(changes: dict[str, Any]) -> None:
    event = decode(line(**changes))
    if event is None:
        return
    for key in event.data:
        event.number(key), event.count(key), event.text(key)
    event.kind.encode()
