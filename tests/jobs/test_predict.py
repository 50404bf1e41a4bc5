"""From facts to predictions: measured before estimated, and whether a job fits."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sollol_tui.jobs.measured import Device, Measured, RankSpeed
from sollol_tui.jobs.planner import make_plan, without
from sollol_tui.jobs.predict import Known
from sollol_tui.jobs.records import dump, load
from sollol_tui.model.errors import NoWorkersError
from sollol_tui.model.facts import Gpu, HostFacts, Interface
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan
from sollol_tui.model.prediction import MeasuredSum
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.units import GIB
from sollol_tui.model.weights import Weights
from tests.jobs.samples import DATASET, facts

LAYERS, HIDDEN, WIDEST, VOCABULARY = 22, 2048, 5632, 32_000


def tinyllama() -> Weights:
    """The shapes of TinyLlama-1.1B."""
    matrices = {
        "model.embed_tokens": (VOCABULARY, HIDDEN),
        "lm_head": (VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for name, shape in {
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.k_proj": (256, HIDDEN),
            "self_attn.v_proj": (256, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (WIDEST, HIDDEN),
            "mlp.up_proj": (WIDEST, HIDDEN),
            "mlp.down_proj": (HIDDEN, WIDEST),
        }.items():
            matrices[f"{at}.{name}"] = shape
    return Weights(
        parameters=sum(a * b for a, b in matrices.values()),
        matrices=matrices,
        hidden=HIDDEN,
        layers=LAYERS,
        widest=WIDEST,
        vocabulary=VOCABULARY,
    )


def known(**measured: Any) -> Known:
    return Known(model="m", weights=tinyllama(), measured=Measured(**measured))


def planned(knowledge: Known, hosts: dict[str, HostFacts], **asked: Any) -> Plan:
    inventory = parse_inventory(f"hosts: [{', '.join(hosts)}]".encode(), "inventory.yaml")
    spec = JobSpec(model="m", dataset="d", **asked)
    selection = select(inventory, "all")
    return make_plan(spec, inventory, selection, hosts, {}, DATASET, None, known=knowledge)


def wired(number: int, mbit: int | None = 1000, **changes: Any) -> HostFacts:
    address = f"10.0.0.{number}"
    interface = Interface(name="eth0", address=address, prefix=24, speed_mbit=mbit)
    return facts(address=address, interfaces=(interface,), **changes)


def speed(tokens_per_s: float, job: str = "j-1", model: str = "m") -> RankSpeed:
    return RankSpeed(
        model=model, parameters=tinyllama().parameters, tokens_per_s=tokens_per_s, job=job
    )


def test_a_plan_stands_on_what_the_same_hosts_took_together_before() -> None:
    devices = {Device(host=host, gpu=None): (speed(2560.0),) for host in "ab"}
    took = MeasuredSum(
        hosts=("b", "a"),
        ranks=2,
        sum_bytes=10**8,
        adding_s=3.0,
        rest_s=0.5,
        source="measured in j-1",
    )
    hosts = {"a": wired(1), "b": wired(2)}
    plan = planned(known(speeds=devices, sums=(took,)), hosts, wire="fp32")
    assert plan.prediction is not None
    assert plan.prediction.rest_s == 0.5
    assert plan.prediction.sync_s == pytest.approx(3.0, rel=0.02)  # for 100.9 MB
    assert any("MB, measured in j-1)" in said for said in plan.prediction.lines())
    assert load(Plan, dump(plan)).prediction == plan.prediction


def gpu(name: str, gib: int) -> tuple[Gpu, ...]:
    return (Gpu(index=0, name=name, vram_bytes=gib * GIB),)


def test_the_adapter_of_tinyllama_has_25_million_numbers() -> None:
    assert tinyllama().trained(JobSpec(model="m", dataset="d").lora) == 25_231_360


def test_a_measured_speed_goes_before_an_estimate_and_both_are_told_apart() -> None:
    plan = planned(
        known(speeds={Device(host="a", gpu=None): (speed(300.0),)}), {"a": wired(1), "b": wired(2)}
    )
    assert plan.prediction is not None
    measured, guessed = plan.prediction.hosts
    assert (measured.tokens_per_s, measured.source) == (300.0, "measured in j-1")
    assert (guessed.is_measured, guessed.source) == (False, "by its 8 cores")
    assert [worker.share for worker in plan.workers] == list(plan.prediction.shares.values())


def test_a_model_of_the_same_size_will_do_and_another_will_not() -> None:
    like = Device(host="a", gpu=None), (speed(300.0, model="other"),)
    unlike = Device(host="a", gpu=None), (replace(like[1][0], parameters=10**8),)
    for (device, speeds), used in ((like, True), (unlike, False)):
        plan = planned(known(speeds={device: speeds}), {"a": wired(1)})
        assert plan.prediction is not None
        assert plan.prediction.hosts[0].is_measured is used


def test_the_doctors_figure_goes_before_the_interfaces() -> None:
    hosts = {"a": wired(1), "b": wired(2, mbit=2500)}
    by_interface = planned(known(), hosts).prediction
    assert by_interface is not None
    assert {round(wire.bytes_per_s * 8 / 1e6) for wire in by_interface.wires} == {940}
    assert not by_interface.wires[0].is_measured
    measured = planned(known(links={("a", "b"): (1e7, 0.001)}), hosts).prediction
    assert measured is not None
    assert measured.slowest_wire is not None
    assert (measured.slowest_wire.origin, measured.slowest_wire.is_measured) == ("a", True)


def test_an_interface_that_does_not_tell_its_speed_leaves_the_sync_unknown() -> None:
    prediction = planned(known(), {"a": wired(1), "b": wired(2, mbit=None)}).prediction
    assert prediction is not None
    assert prediction.sync_s is None


def test_a_device_of_unknown_speed_predicts_nothing_and_shares_are_equal() -> None:
    plan = planned(known(), {"a": wired(1, gpus=gpu("Mystery 1", 24)), "b": wired(2)})
    assert plan.prediction is None
    assert [worker.share for worker in plan.workers] == [0.5, 0.5]
    assert plan.memory is not None


def test_a_model_that_nobody_has_seen_is_planned_without_figures() -> None:
    plan = planned(Known(), {"a": wired(1), "b": wired(2)})
    assert (plan.prediction, plan.memory) == (None, None)


def test_a_host_that_cannot_even_hold_the_model_is_left_out_by_name() -> None:
    hosts = {"small": wired(1, gpus=gpu("GTX 1050", 2)), "large": wired(2, gpus=gpu("A100", 80))}
    plan = planned(known(), hosts)
    assert [worker.host for worker in plan.workers] == ["large"]
    assert plan.left_out["small"] == (
        "model and adapter need 3.0 GiB before the first sample, and its GTX 1050 has 2.0 GiB; "
        "set quantize: nf4, or train a smaller model"
    )
    with pytest.raises(NoWorkersError) as refused:
        planned(known(), {"small": hosts["small"]})
    assert "small" in refused.value.reasons


def test_a_tight_host_is_warned_of_with_what_will_help() -> None:
    plan = planned(
        known(), {"attic": wired(1, gpus=gpu("RTX 2080 Ti", 11))}, batch_size=32, max_length=2048
    )
    assert plan.memory is not None
    assert plan.memory.host == "attic"
    assert any(n.startswith("attic: fewer samples at once will be needed") for n in plan.notices)


def test_checkpoints_that_do_not_fit_on_the_disk_are_refused_with_the_host() -> None:
    hosts = {"a": wired(1, disk_free_bytes=4 * GIB), "b": wired(2)}
    plan = planned(known(), hosts, save_total_limit=100)
    assert plan.left_out["a"].startswith("100 checkpoints need 28.5 GiB in /home/ml/.sollol")


def test_a_plan_with_its_prediction_is_stored_and_read_again() -> None:
    plan = planned(known(), {"a": wired(1), "b": wired(2), "c": wired(3)})
    again = load(Plan, dump(plan))
    assert again.prediction == plan.prediction
    assert again.memory == plan.memory
    rest = without(again, "b", "gone", 1)
    assert rest.prediction is not None
    assert list(rest.prediction.shares) == ["a", "c"]
    assert sum(worker.share for worker in rest.workers) == 1


def test_the_plan_as_json_holds_every_figure() -> None:
    plan = planned(known(), {"a": wired(1), "b": wired(2)})
    data = json.loads(json.dumps(plan.as_data()))
    assert data["schema"] == "sollol.plan/1"
    assert data["prediction"]["best_host"] == "a"
    assert {host["host"]: host["share"] for host in data["prediction"]["hosts"]} == {
        "a": 0.5,
        "b": 0.5,
    }
    assert data["memory"]["host"] in ("a", "b")
    nothing = json.loads(json.dumps(planned(Known(), {"a": wired(1)}).as_data()))
    assert (nothing["prediction"], nothing["memory"]) == (None, None)
