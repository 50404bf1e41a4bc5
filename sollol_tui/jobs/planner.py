"""Decides which hosts take part in a job and with which ranks, or says why it cannot be. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from sollol_tui.model.errors import NoWorkersError
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.patterns import Selection
from sollol_tui.model.plan import DatasetFacts, Plan, PlannedRank, PlannedWorker
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.units import GIB, format_bytes

# An environment of that kind, and room; for ROCm by the size of its wheels.
MIN_DISK = {"cpu": 3 * GIB, "cuda": 12 * GIB, "rocm": 24 * GIB}


def make_plan(
    spec: JobSpec,
    inventory: Inventory,
    selection: Selection,
    facts: Mapping[str, HostFacts],
    unusable: Mapping[str, str],
    dataset: DatasetFacts,
    leased: Mapping[str, str],
) -> Plan:
    """Takes the suitable hosts of the selection in its order, as many as it wants. `unusable` maps
    hosts to why they could not be reached, `leased` resources to jobs. Raises NoWorkersError."""
    reasons = dict(unusable)
    workers: list[PlannedWorker] = []
    for host in selection.hosts:
        if host.name in reasons or len(workers) == selection.at_most:
            continue
        try:
            workers.append(_worker(host, facts[host.name], leased))
        except _NotSuitableError as reason:
            reasons[host.name] = str(reason)
    if len(workers) < selection.at_least:
        wanted = f"{selection.at_least} worker{'s' if selection.at_least > 1 else ''}"
        raise NoWorkersError(
            f"{wanted} wanted, {len(workers)} suitable now",
            reasons,
            remedy="sollol status shows the hosts",
        )
    return _numbered(
        Plan(
            workers=tuple(workers),
            engine="static",
            global_batch=spec.resolved_global_batch(dataset.rows),
            max_steps=spec.max_steps(dataset.rows),
            rows=dataset.rows,
            dataset=dataset,
            ports=inventory.network.ports,
            left_out=reasons,
            notices=_notices(spec, dataset),
        )
    )


def without(plan: Plan, host: str, reason: str, at_least: int) -> Plan:
    """The plan without one host that turned out not to be usable, before the first launch."""
    workers = tuple(worker for worker in plan.workers if worker.host != host)
    left_out = plan.left_out | {host: reason}
    if len(workers) < at_least:
        raise NoWorkersError(f"{at_least} workers wanted, {len(workers)} left", left_out)
    return _numbered(replace(plan, workers=workers, left_out=left_out))


def resources(plan: Plan) -> list[str]:
    """What a job with this plan leases: each GPU, or the host as a whole where it has none."""
    return [_resource(worker.host, rank.gpu) for worker in plan.workers for rank in worker.ranks]


def accelerator_of(host: Host, facts: HostFacts) -> str:
    """What a host trains on: its GPUs, unless it has none or its limits admit none."""
    return "cpu" if host.limits.gpu_ids == () else facts.accelerator


class _NotSuitableError(Exception):
    pass


def _worker(host: Host, facts: HostFacts, leased: Mapping[str, str]) -> PlannedWorker:
    needed = MIN_DISK[accelerator_of(host, facts)]
    if facts.disk_free_bytes < needed:
        raise _NotSuitableError(
            f"{format_bytes(facts.disk_free_bytes)} free in {facts.workdir}, "
            f"{format_bytes(needed)} needed; free some space or set another workdir"
        )
    gpus = [gpu.index for gpu in facts.gpus]
    if host.limits.gpu_ids is not None:
        missing = sorted(set(host.limits.gpu_ids) - set(gpus))
        if missing:
            raise _NotSuitableError(f"has no GPU {missing[0]} (limits.gpu_ids); it has {gpus}")
        gpus = list(host.limits.gpu_ids)
    devices: list[int | None] = list(gpus) or [None]
    holders = {leased[r] for gpu in devices if (r := _resource(host.name, gpu)) in leased}
    if holders:
        raise _NotSuitableError(f"in use by {', '.join(sorted(holders))}")
    return PlannedWorker(
        host=host.name,
        address=facts.address,
        accelerator=accelerator_of(host, facts),
        ranks=tuple(PlannedRank(slot=0, gpu=gpu) for gpu in devices),
        share=0.0,
        cpu_cores=host.limits.cpu_cores,
    )


def _numbered(plan: Plan) -> Plan:
    """Gives out slots and equal shares over the ranks."""
    slot, workers = 0, []
    for worker in plan.workers:
        ranks = tuple(
            PlannedRank(slot=slot + number, gpu=rank.gpu)
            for number, rank in enumerate(worker.ranks)
        )
        slot += len(ranks)
        workers.append(replace(worker, ranks=ranks, share=len(ranks) / plan.world_size))
    return replace(plan, workers=tuple(workers))


def _resource(host: str, gpu: int | None) -> str:
    return f"host {host}" if gpu is None else f"host {host} GPU {gpu}"


def _notices(spec: JobSpec, dataset: DatasetFacts) -> tuple[str, ...]:
    notices = []
    if spec.global_batch == "auto":
        size = spec.resolved_global_batch(dataset.rows)
        notices.append(f"global batch {size}: from {dataset.rows:,} rows x {spec.epochs} epochs")
    return tuple(notices)
