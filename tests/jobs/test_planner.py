"""The planner: who takes part, and why the others do not. Pure."""

from dataclasses import replace
from typing import Any

import pytest

from sollol_tui.jobs.leases import Taken
from sollol_tui.jobs.planner import accelerator_of, make_plan, plan_worker, resources, without
from sollol_tui.model.errors import NoWorkersError, UnsuitableError
from sollol_tui.model.facts import GpuProcess, HostFacts, RamLimit
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import Engine, JobSpec, Mode, Resources
from sollol_tui.model.units import GIB
from tests.jobs.samples import DATASET, facts, gpus


def inventory(text: str = "hosts: [a, b, c]") -> Inventory:
    return parse_inventory(text.encode(), "inventory.yaml")


def planned(
    pattern: str = "all",
    *,
    hosts: Inventory | None = None,
    lost: dict[str, str] | None = None,
    leased: dict[str, str] | None = None,
    claimed: dict[str, str] | None = None,
    take: Resources | None = None,
    slots: dict[tuple[str, int | None], int] | None = None,
    asked: dict[str, Any] | None = None,
    **known: HostFacts,
) -> Plan:
    everyone, lost = hosts or inventory(), lost or {}
    names = [host.name for host in everyone.hosts if host.name not in lost]
    spec = JobSpec(
        model="m", dataset="d", workers=pattern, resources=take or Resources(), **asked or {}
    )
    taken = Taken(leased=leased or {}, claimed=claimed or {})
    answers = {name: known.get(name, facts()) for name in names}
    selection = select(everyone, pattern)
    return make_plan(spec, everyone, selection, answers, lost, DATASET, taken, slots)


def test_each_cpu_host_is_one_rank_with_an_equal_share() -> None:
    plan = planned()
    assert [(w.host, [r.slot for r in w.ranks], r.gpu) for w in plan.workers for r in w.ranks] == [
        ("a", [0], None), ("b", [1], None), ("c", [2], None),
    ]  # fmt: skip
    assert sum(worker.share for worker in plan.workers) == pytest.approx(1)
    assert (plan.world_size, plan.global_batch, plan.max_steps) == (3, 16, 10)
    assert resources(plan) == ["host a", "host b", "host c"]


def test_accumulation_sets_the_global_batch_from_the_planned_ranks_and_says_so() -> None:
    plan = planned("a,b", asked={"batch_size": 4, "gradient_accumulation_steps": 8})
    assert (plan.global_batch, plan.max_steps) == (64, 3)
    assert plan.notices == (
        "global batch 64: batch_size 4 x gradient_accumulation_steps 8 x 2 ranks; it stays when "
        "ranks come or go",
    )


def test_rows_held_out_and_a_batch_beyond_the_data_are_said() -> None:
    notices = planned(asked={"val_size": 0.1, "global_batch": 1000}).notices
    assert notices == (
        "a step takes all 160 samples, fewer than the global batch 1000",
        "val_size 0.1: ~16 rows are held out, so there are fewer steps",
    )


def test_each_gpu_is_one_rank_and_shares_follow_ranks() -> None:
    plan = planned("a,b", a=facts(gpus=gpus(2)))
    assert [[(r.slot, r.gpu) for r in w.ranks] for w in plan.workers] == [
        [(0, 0), (1, 1)],
        [(2, None)],
    ]
    assert [worker.share for worker in plan.workers] == pytest.approx([2 / 3, 1 / 3])
    assert resources(plan) == ["host a GPU 0", "host a GPU 1", "host b"]


def test_limits_choose_gpus_or_none_of_them() -> None:
    one = inventory("hosts: {a: {limits: {gpu_ids: [1]}}}")
    assert resources(planned("a", hosts=one, a=facts(gpus=gpus(2)))) == ["host a GPU 1"]
    none = inventory("hosts: {a: {limits: {gpu_ids: [], cpu_cores: 4}}}")
    plan = planned("a", hosts=none, a=facts(gpus=gpus(2)))
    assert (resources(plan), plan.workers[0].cpu_cores) == (["host a"], 4)
    assert accelerator_of(none.hosts[0], facts(gpus=gpus(2))) == "cpu"


def test_as_many_as_asked_are_taken_past_those_that_cannot() -> None:
    plan = planned("2", lost={"a": "no route to host"})
    assert [worker.host for worker in plan.workers] == ["b", "c"]
    assert plan.left_out == {"a": "no route to host"}
    assert "without a: no route to host" in plan.lines("m", 32, 1)


def test_too_few_is_refused_with_every_reason() -> None:
    missing = inventory("hosts: {a: {limits: {gpu_ids: [3]}}, b: , c: }")
    with pytest.raises(NoWorkersError, match="3 workers wanted, 0 suitable now") as refusal:
        planned("3", hosts=missing, lost={"c": "refused"}, a=facts(gpus=gpus(1)),
                b=facts(disk_free_bytes=GIB))  # fmt: skip
    reasons = refusal.value.reasons
    assert reasons["a"] == "has no GPU 3 (limits.gpu_ids); it has [0]"
    assert reasons["b"].startswith("1.0 GiB free in /home/ml/.sollol, 3.0 GiB needed")
    assert reasons["c"] == "refused"


def test_what_another_job_holds_is_not_taken() -> None:
    plan = planned(leased={"host b": "j-1"})
    assert [worker.host for worker in plan.workers] == ["a", "c"]
    assert plan.left_out == {"b": "in use by j-1"}
    with pytest.raises(NoWorkersError):
        planned("b", leased={"host b": "j-1"})


def test_the_same_facts_give_the_same_plan() -> None:
    assert planned() == planned()


def test_a_plan_loses_a_host_and_numbers_the_rest_anew() -> None:
    plan = without(planned(), "a", "no space", at_least=2)
    assert [(w.host, w.ranks[0].slot, w.share) for w in plan.workers] == [
        ("b", 0, 0.5),
        ("c", 1, 0.5),
    ]
    assert plan.left_out == {"a": "no space"}
    assert (plan.global_batch, plan.max_steps) == (planned().global_batch, planned().max_steps)
    with pytest.raises(NoWorkersError, match="2 workers wanted, 1 left"):
        without(plan, "b", "no space", at_least=2)


GPUS = tuple(replace(gpu, uuid=f"GPU-{gpu.index}") for gpu in gpus(2))


def user(gpu: int) -> GpuProcess:
    return GpuProcess(pid=4711, gpu=f"GPU-{gpu}", name="python3", vram_bytes=3 * GIB)


def test_two_jobs_share_a_host_with_two_gpus() -> None:
    plan = planned("a", a=facts(gpus=GPUS), leased={"host a GPU 0": "j-1"})
    assert resources(plan) == ["host a GPU 1"]
    assert plan.left_out == {"a GPU 0": "in use by j-1"}
    with pytest.raises(NoWorkersError) as refusal:
        planned("a", a=facts(gpus=GPUS), leased={"host a GPU 0": "j-1", "host a GPU 1": "j-2"})
    assert refusal.value.wait == "waits for a (j-1, j-2)"


def test_a_job_on_the_cpu_shares_a_host_with_one_on_its_gpus() -> None:
    plan = planned("a", a=facts(gpus=GPUS), leased={"host a GPU 0": "j-1"},
                   take=Resources(gpu_ids=(), cpu_cores=2))  # fmt: skip
    assert (resources(plan), plan.workers[0].accelerator) == (["host a"], "cpu")
    assert plan.workers[0].cpu_cores == 2


@pytest.mark.parametrize(
    ("offers", "told"),
    [
        ({"ram_limit": RamLimit.SCOPE, "lingers": True}, "by the kernel (a scope of systemd)"),
        ({"ram_limit": RamLimit.SCOPE, "user": "root"}, "by the kernel (a scope of systemd)"),
        ({"ram_limit": RamLimit.SCOPE}, "if lingering can be switched on there"),
        ({"ram_limit": RamLimit.GROUP}, "by the kernel (a control group)"),
        ({}, "watched every second"),
    ],
)
def test_the_lower_memory_limit_counts_and_the_plan_says_how_it_is_kept(
    offers: dict[str, Any], told: str
) -> None:
    known = inventory("hosts: {a: {limits: {ram_gb: 4}}}")
    there = replace(facts(), **offers)
    plan = planned("a", a=there, hosts=known, take=Resources(ram_gb=8))
    assert plan.workers[0].ram_gb == 4
    (notice,) = [n for n in plan.notices if "memory" in n]
    assert notice.startswith("a: at most 4 GiB of memory, ")
    assert told in notice
    lower = planned("a", a=there, hosts=known, take=Resources(ram_gb=2.5))
    assert lower.workers[0].ram_gb == 2.5
    unlimited = planned("a", a=there)
    assert unlimited.workers[0].ram_gb is None
    assert not [n for n in unlimited.notices if "memory" in n]


def test_gpus_that_are_named_are_all_needed_and_must_be_there() -> None:
    named = Resources(gpu_ids=(0, 1))
    plan = planned("a", a=facts(gpus=GPUS), take=named)
    assert resources(plan) == ["host a GPU 0", "host a GPU 1"]
    with pytest.raises(NoWorkersError) as refusal:
        planned("a", a=facts(gpus=GPUS), take=named, leased={"host a GPU 1": "j-1"})
    assert refusal.value.reasons == {"a": "in use by j-1"}
    with pytest.raises(NoWorkersError) as refusal:
        planned("b", take=named)
    assert refusal.value.reasons == {"b": "has no GPU 0 (resources.gpu_ids); it has []"}
    assert refusal.value.wait == ""
    limited = inventory("hosts: {a: {limits: {gpu_ids: [1]}}}")
    with pytest.raises(NoWorkersError) as refusal:
        planned("a", hosts=limited, a=facts(gpus=GPUS), take=named)
    assert "GPU 0 (resources.gpu_ids) is not among limits.gpu_ids [1]" in str(refusal.value.reasons)


def test_a_gpu_that_others_use_is_left_to_them_unless_it_is_named() -> None:
    busy = facts(gpus=GPUS, gpu_processes=(user(0),))
    plan = planned("a", a=busy)
    assert resources(plan) == ["host a GPU 1"]
    assert plan.left_out == {"a GPU 0": "GPU 0 is used by python3 (pid 4711, 3.0 GiB)"}
    with pytest.raises(NoWorkersError) as refusal:
        planned("a", a=busy, leased={"host a GPU 1": "j-1"})
    assert refusal.value.wait == "waits for a (GPU 0 is used by python3 (pid 4711, 3.0 GiB), j-1)"
    named = planned("a", a=busy, take=Resources(gpu_ids=(0,)))
    assert resources(named) == ["host a GPU 0"]
    assert any("a GPU 0 is used by python3 (pid 4711, 3.0 GiB) too" in n for n in named.notices)


def test_a_process_of_our_own_job_is_no_stranger() -> None:
    plan = planned(
        "a", a=facts(gpus=GPUS, gpu_processes=(user(0),)), leased={"host a GPU 0": "j-1"}
    )
    assert plan.left_out == {"a GPU 0": "in use by j-1"}


def test_what_waits_is_told_with_who_is_first() -> None:
    with pytest.raises(NoWorkersError) as refusal:
        planned("3", leased={"host a": "j-1"}, claimed={"host b": "j-2", "host c *": "j-2"})
    assert refusal.value.wait == "waits for a (j-1), after j-2"
    with pytest.raises(NoWorkersError) as refusal:
        planned("3", leased={"host a": "j-1"}, lost={"b": "no route to host"})
    assert refusal.value.wait == ""  # waiting for the job alone is of no use


def test_a_slot_stays_with_its_device() -> None:
    given = {("b", None): 0, ("a", 0): 3}
    plan = planned("a,b,c", a=facts(gpus=GPUS), slots=given)
    assert [(w.host, [r.slot for r in w.ranks]) for w in plan.workers] == [
        ("a", [3, 4]), ("b", [0]), ("c", [5]),
    ]  # fmt: skip
    assert plan.first_slot == 3


def test_a_host_outside_the_named_network_is_told() -> None:
    hosts = inventory("hosts: {a: , b: , c: {internal_ip: 192.0.2.9}}\nnetwork: {cidr: 10.0.0.0/8}")
    known = {"a": facts(address="10.0.0.1"), "b": facts(address="192.0.2.2")}
    told = "b has no address in 10.0.0.0/8 (network.cidr); the others reach it at 192.0.2.2"
    assert [line for line in planned(hosts=hosts, **known).notices if "cidr" in line] == [told]
    assert not [line for line in planned("b", hosts=hosts, **known).notices if "cidr" in line]


def test_the_elastic_engine_leaves_out_a_host_for_which_there_is_no_torchft() -> None:
    known = {"a": facts(), "b": facts(arch="aarch64"), "c": facts()}
    plan = planned("2", asked={"engine": Engine.ELASTIC}, **known)
    assert (plan.engine, [worker.host for worker in plan.workers]) == ("elastic", ["a", "c"])
    assert "this is Linux on aarch64; set engine: static" in plan.left_out["b"]


def test_the_engine_is_elastic_wherever_all_workers_can_and_adding_needs_a_network() -> None:
    known = {"a": facts(), "b": facts(arch="aarch64"), "c": facts()}
    assert planned("a,c", **known).engine == "elastic"
    one = planned("a", **known)
    assert one.engine == "static"
    assert not [notice for notice in one.notices if notice.startswith("engine")]
    apart = {"mode": Mode.TEACHER_STUDENT, "val_size": 0.1}
    assert planned("a,c", asked=apart, **known).engine == "static"
    mixed = planned("2", **known)
    assert mixed.engine == "static"
    assert "engine static: there is no torchft for b (Linux on aarch64)" in mixed.notices
    alone = planned("a", a=facts(gpus=gpus(2)))
    assert alone.engine == "static"
    assert "engine static: the GPUs of a add over NCCL" in alone.notices
    through = "engine elastic: the GPUs' gradients are added up through the hosts' memory"
    several = planned("2", a=facts(gpus=gpus(1)), b=facts(gpus=gpus(1)))
    assert several.engine == "elastic"
    assert any(notice.startswith(through) for notice in several.notices)
    unlike = planned("2", a=facts(gpus=gpus(1)), c=facts())
    assert not any(notice.startswith(through) for notice in unlike.notices)
    assert planned("a,c", asked={"engine": Engine.STATIC}, **known).engine == "static"
    elastic, static = (
        JobSpec(model="m", dataset="d", engine=engine) for engine in (Engine.ELASTIC, Engine.STATIC)
    )
    free = Taken()
    with pytest.raises(UnsuitableError, match="this is Linux on aarch64"):
        plan_worker(elastic, Host(name="b"), known["b"], free)
    assert plan_worker(static, Host(name="b"), known["b"], free)[1] == []
