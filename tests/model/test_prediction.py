"""What a plan promises: the arithmetic of steps, syncs and shares, and what it says of it."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from sollol_tui.model.prediction import HostSpeed, MeasuredSum, Prediction, Wire

MBIT = 1e6 / 8
TINYLLAMA_R32 = 25_200_000  # trained parameters


def prediction(
    speeds: dict[str, float],
    *,
    mbit: float | None = 940,
    global_batch: int = 128,
    sample_tokens: float = 256.0,
    ranks: int = 1,
) -> Prediction:
    hosts = tuple(
        HostSpeed(host=name, ranks=ranks, tokens_per_s=speed, is_measured=True, source="in j-1")
        for name, speed in speeds.items()
    )
    wires = tuple(
        Wire(
            origin=one,
            target=other,
            bytes_per_s=mbit * MBIT,
            latency_s=0.0002,
            is_measured=True,
            source="measured",
        )
        for one, other in permutations(speeds, 2)
        if mbit is not None
    )
    return Prediction(
        hosts=hosts,
        wires=wires,
        global_batch=global_batch,
        sample_tokens=sample_tokens,
        gradient_bytes=2 * TINYLLAMA_R32,
    )


FOUR = {"a": 6500.0, "b": 6500.0, "c": 6500.0, "d": 6500.0}


def test_a_sync_takes_what_a_ring_takes() -> None:
    """Measured with gloo between 4 hosts: 0.63 s for 50.5 MB at 1 Gbit."""
    assert prediction(FOUR).sync_s == pytest.approx(0.63, rel=0.03)
    assert prediction({"a": 1.0, "b": 1.0}).sync_s == pytest.approx(50.4e6 / (940 * MBIT), rel=0.01)


def test_one_host_adds_up_for_nothing() -> None:
    alone = prediction({"a": 6500.0}, mbit=None, ranks=2)
    assert (alone.sync_s, alone.efficiency, alone.speedup) == (0.0, 1.0, 1.0)


def test_efficiency_and_speed_up_follow_from_step_and_sync() -> None:
    four = prediction(FOUR)
    compute_s = 128 * 256 / 26_000
    assert four.compute_s == pytest.approx(compute_s)
    assert four.efficiency == pytest.approx(compute_s / (compute_s + four.sync_s), rel=1e-9)
    assert four.speedup == pytest.approx(4 * four.efficiency)


def test_shares_follow_speed() -> None:
    shares = prediction({"fast": 3000.0, "slow": 1000.0}).shares
    assert shares == {"fast": 0.75, "slow": 0.25}


def test_whole_samples_cost_the_last_rank_its_time() -> None:
    three = prediction({"a": 100.0, "b": 100.0, "c": 100.0}, global_batch=16, sample_tokens=100)
    assert three.compute_s == pytest.approx(6.0)  # 6 + 5 + 5 samples of a second each


def test_the_suggested_batch_reaches_the_mark_and_half_of_it_does_not() -> None:
    four = prediction(FOUR)
    wanted = four.wanted_batch
    assert wanted is not None
    assert replace(four, global_batch=wanted).efficiency >= 0.9
    assert replace(four, global_batch=wanted // 2).efficiency < 0.9
    assert replace(four, global_batch=wanted).wanted_batch is None


def test_a_host_that_costs_more_than_it_brings_is_named() -> None:
    crew = prediction({"a": 6500.0, "b": 6500.0, "pi": 60.0})
    slow_link = [
        replace(wire, bytes_per_s=20 * MBIT) if "pi" in (wire.origin, wire.target) else wire
        for wire in crew.wires
    ]
    crew = replace(crew, wires=tuple(slow_link))
    assert crew.in_the_way == ("pi",)
    assert any("leave pi out" in line and "'!pi'" in line for line in crew.lines())
    assert prediction(FOUR).in_the_way == ()


def test_a_network_so_slow_that_one_host_does_better_alone_leaves_the_fastest() -> None:
    crew = prediction({"big": 10_000.0, "small": 500.0, "tiny": 400.0}, mbit=10)
    assert set(crew.in_the_way) == {"small", "tiny"}


def test_the_slowest_wire_of_the_ring_is_what_counts() -> None:
    crew = prediction(FOUR)
    wires = [
        replace(wire, bytes_per_s=100 * MBIT) if (wire.origin, wire.target) == ("b", "c") else wire
        for wire in crew.wires
    ]
    slowest = replace(crew, wires=tuple(wires)).slowest_wire
    assert slowest is not None
    assert (slowest.origin, slowest.target) == ("b", "c")
    aside = [
        replace(wire, bytes_per_s=1.0) if (wire.origin, wire.target) == ("a", "c") else wire
        for wire in crew.wires
    ]
    assert replace(crew, wires=tuple(aside)).sync_s == crew.sync_s  # a and c are no neighbours


def test_an_unknown_network_is_said_to_be_unknown() -> None:
    crew = prediction(FOUR, mbit=None)
    assert (crew.sync_s, crew.wanted_batch) == (None, None)
    assert "the network's speed is not known (sollol doctor --network" in crew.lines()[0]
    sizeless = replace(prediction(FOUR), gradient_bytes=None)
    assert "the model's size is not known" in sizeless.lines()[0]


def test_what_was_not_measured_carries_its_mark_and_its_source() -> None:
    crew = prediction({"a": 6500.0, "b": 3250.0})
    guessed = replace(crew.hosts[1], is_measured=False, source="by its RTX 2080 Ti")
    wires = tuple(replace(w, is_measured=False, source="its interface") for w in crew.wires)
    together, apart, *_ = replace(crew, hosts=(crew.hosts[0], guessed), wires=wires).lines()
    assert apart == "smp/s of each: a 25.4 (in j-1), b ~12.7 (by its RTX 2080 Ti)"
    assert together.startswith("at most ~1.")
    assert "(bf16, 50.4 MB at ~940 Mbit/s, its interface)" in together


def told(batch: int = 128, adding_s: float = 0.95, **more: Any) -> dict[str, Any]:
    """A `speed` event of four that compute 25.4 samples/s each."""
    compute_s, rest_s = batch / 4 / 25.4, 0.05
    step_s = compute_s + adding_s + rest_s
    rank = {"samples_per_s": 25.4, "share": 0.25}
    return {
        "step": 9,
        "samples_per_s": batch / step_s,
        "step_s": step_s,
        "adding_s": adding_s,
        "waiting_s": 0.0,
        "speedup": 3.0,
        "efficiency": batch / 4 / 25.4 / step_s,
        "sum_bytes": 2 * TINYLLAMA_R32,
        "ranks": [{"slot": n, "host": host, **rank} for n, host in enumerate("abcd")],
        **more,
    }


def after(event: dict[str, Any], **changes: Any) -> Prediction:
    """What is predicted once that was measured."""
    measured = MeasuredSum.told_by(event, "measured in j-1")
    assert measured is not None
    speeds = dict.fromkeys("abcd", 25.4 * 256)
    made = prediction(speeds, **changes)
    return replace(made, measured_sum=measured, rest_s=measured.rest_s)


@pytest.mark.parametrize("mbit", [None, 940, 100])
@pytest.mark.parametrize("adding_s", [0.2, 0.95])
def test_what_was_measured_is_what_is_predicted_for_the_same(mbit, adding_s):
    event = told(adding_s=adding_s)
    same = after(event, mbit=mbit)
    assert same.sync_s == pytest.approx(adding_s)
    assert same.efficiency == pytest.approx(event["efficiency"])
    assert same.as_data()["measured_sum"]["source"] == "measured in j-1"
    assert "s (bf16, 50.4 MB, measured in j-1)" in same.lines()[0]


def test_a_sum_measured_at_one_batch_tells_the_efficiency_at_another() -> None:
    larger = after(told(batch=128), global_batch=512)
    assert larger.efficiency == pytest.approx(told(batch=512)["efficiency"])


def test_what_the_wires_do_not_explain_is_work_that_stays_when_a_slow_link_goes() -> None:
    slow = 100 * MBIT
    whole = after(told(adding_s=7.0))
    whole = replace(
        whole,
        wires=tuple(
            replace(wire, bytes_per_s=slow if "d" in (wire.origin, wire.target) else 940 * MBIT)
            for wire in whole.wires
        ),
    )
    by_slow_wire, by_quick_wire = 1.5 * 50.4e6 / slow, 4 / 3 * 50.4e6 / (940 * MBIT)
    assert whole.sync_s == pytest.approx(7.0)
    work_s = 7.0 - by_slow_wire
    assert whole.without("d").sync_s == pytest.approx(by_quick_wire + work_s, abs=0.01)
    assert whole.in_the_way == ("d",)


def test_of_hosts_whose_wires_are_not_known_only_the_sum_of_all_is() -> None:
    whole = after(told(), mbit=None)
    assert whole.sync_s == pytest.approx(0.95)
    assert whole.without("d").sync_s is None
    assert replace(whole, gradient_bytes=TINYLLAMA_R32).sync_s == pytest.approx(0.95 / 2)


@pytest.mark.parametrize(
    "lie",
    [{"sum_bytes": 0}, {"sum_bytes": "x"}, {"adding_s": 0}, {"adding_s": None}, {"ranks": []},
     {"ranks": [{"slot": 0, "host": "a", "samples_per_s": 1.0, "share": 1.0}]},
     {"ranks": [{"slot": n, "host": h, "samples_per_s": 0, "share": 0.5} for n, h in
                enumerate("ab")]}],
)  # fmt: skip
def test_a_sum_that_cannot_be_is_none(lie):
    assert MeasuredSum.told_by(told() | lie, "j-1") is None
