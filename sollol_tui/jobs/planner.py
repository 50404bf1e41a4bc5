"""Decides which hosts take part in a job and with which ranks, or says why it cannot be. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from itertools import count
from typing import Final

from sollol_tui.jobs.leases import Taken
from sollol_tui.jobs.predict import Known, memory_of, misfit, predict
from sollol_tui.model.errors import NoWorkersError, UnsuitableError
from sollol_tui.model.facts import Gpu, HostFacts, RamLimit
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.patterns import Selection
from sollol_tui.model.plan import DatasetFacts, Plan, PlannedRank, PlannedWorker
from sollol_tui.model.spec import Engine, JobSpec, Mode, Resources
from sollol_tui.model.units import GIB, format_bytes

MIN_DISK = {"cpu": 3 * GIB, "cuda": 12 * GIB, "rocm": 24 * GIB}


_ELASTIC_ON: Final = ("Linux", "x86_64")
_NAMED: Final = 3  # hosts in a sentence about what a job waits for


def make_plan(
    spec: JobSpec,
    inventory: Inventory,
    selection: Selection,
    facts: Mapping[str, HostFacts],
    unusable: Mapping[str, str],
    dataset: DatasetFacts,
    taken: Taken | None,
    slots: Mapping[tuple[str, int | None], int] | None = None,
    known: Known | None = None,
) -> Plan:
    """Takes the suitable hosts of the selection in its order, as many as it wants. `unusable` maps
    hosts to why they could not be reached, `slots` devices to the slots they had before; with
    `taken` None all devices are held to be free. `known` is what it predicts from. Raises
    NoWorkersError, whose `wait` says what would have to become free."""
    known, apart = known or Known(), spec.mode is Mode.TEACHER_STUDENT
    reasons = dict(unusable)
    workers: list[PlannedWorker] = []
    obstacles: dict[str, list[_Obstacle]] = {}
    notices: list[str] = []
    for host in selection.hosts:
        if host.name in reasons or len(workers) == selection.at_most:
            continue
        try:
            _check_engine(spec, facts[host.name])
            worker, left_out, warnings = _worker(host, facts[host.name], spec.resources, taken)
            if reason := misfit(spec, facts[host.name], worker, known):
                raise _NotSuitableError(reason)
        except _NotSuitableError as error:
            reasons[host.name] = str(error)
            if error.obstacles:
                obstacles[host.name] = error.obstacles
        else:
            workers.append(replace(worker, ranks=worker.ranks[:1]) if apart else worker)
            reasons |= {f"{host.name} GPU {o.gpu}": o.reason for o in left_out}
            notices += warnings
    if len(workers) > 1:
        taking_part = {worker.host: worker.address for worker in workers}
        notices += [
            f"{host.name} has no address in {host.cidr} (network.cidr); the others reach it at "
            f"{taking_part[host.name]}"
            for host in selection.hosts
            if host.name in taking_part and _is_outside(host, taking_part[host.name])
        ]
    if len(workers) < selection.at_least:
        wanted = f"{selection.at_least} worker{'s' if selection.at_least > 1 else ''}"
        raise NoWorkersError(
            f"{wanted} wanted, {len(workers)} suitable now",
            reasons,
            remedy="sollol status shows the hosts",
            wait=_wait(obstacles) if len(workers) + len(obstacles) >= selection.at_least else "",
        )
    ranks = sum(len(worker.ranks) for worker in workers)
    global_batch = spec.resolved_global_batch(dataset.rows, ranks)
    memory = memory_of(spec, facts, tuple(workers), known)
    engine, engine_notice = _engine(spec, workers, facts)
    plan = Plan(
        workers=tuple(workers),
        engine=engine,
        global_batch=global_batch,
        max_steps=-(-dataset.rows * spec.epochs // global_batch),  # the last one may be short
        rows=dataset.rows,
        dataset=dataset,
        ports=inventory.network.ports,
        left_out=reasons,
        notices=(
            *_notices(spec, dataset, ranks),
            *engine_notice,
            *(memory.warnings if memory else ()),
            *notices,
        ),
        prediction=None
        if apart
        else predict(spec, tuple(workers), facts, dataset, global_batch, known),
        memory=memory,
        apart=apart,
    )
    return _numbered(plan, slots or {})


def without(
    plan: Plan,
    host: str,
    reason: str,
    at_least: int,
    slots: Mapping[tuple[str, int | None], int] | None = None,
) -> Plan:
    """The plan without one host that turned out not to be usable, before it is launched."""
    rest = plan.without(host, reason)
    if len(rest.workers) < at_least:
        raise NoWorkersError(f"{at_least} workers wanted, {len(rest.workers)} left", rest.left_out)
    return _numbered(rest, slots or {})


def plan_worker(
    spec: JobSpec, host: Host, facts: HostFacts, taken: Taken
) -> tuple[PlannedWorker, list[str]]:
    """A host that is to join a job that runs, still without slots, and warnings. Raises
    UnsuitableError with the reason why it cannot."""
    try:
        _check_engine(spec, facts)
        worker, left_out, warnings = _worker(host, facts, spec.resources, taken)
    except _NotSuitableError as reason:
        raise UnsuitableError(host.name, str(reason)) from None
    return worker, [*(f"{host.name}: {one.reason}" for one in left_out), *warnings]


def with_workers(
    plan: Plan,
    workers: Sequence[PlannedWorker],
    slots: Mapping[tuple[str, int | None], int],
) -> Plan:
    """The plan with these workers in place of its own; everything about the steps stays."""
    there = {worker.host for worker in workers}
    left_out = {host: reason for host, reason in plan.left_out.items() if host not in there}
    prediction = plan.prediction
    for worker in plan.workers:
        if prediction is not None and worker.host not in there:
            prediction = prediction.without(worker.host)
    if there - {worker.host for worker in plan.workers}:
        prediction = None  # nothing was predicted of those who come
    new = replace(plan, workers=tuple(workers), left_out=left_out, prediction=prediction)
    return _numbered(new, slots)


def resources(plan: Plan) -> list[str]:
    """What a job with this plan leases: each GPU, or the CPU of a host where it uses none, those of
    its teacher too. So a job on GPUs and one on the CPU may share a host, and so may jobs on
    different GPUs."""
    own = [_resource(worker.host, rank.gpu) for worker in plan.workers for rank in worker.ranks]
    teaching = plan.teacher.hosts if plan.teacher else ()
    return list(dict.fromkeys([*own, *(_resource(host.host, host.gpu) for host in teaching)]))


def any_device(host: str) -> str:
    """The claim of a job on a host of which it is not known what it has."""
    return f"host {host} *"


def could_use(spec: JobSpec, selection: Selection, facts: Mapping[str, HostFacts]) -> list[str]:
    """What a job that waits could use, whoever holds it now."""
    claims: list[str] = []
    for host in selection.hosts:
        if host.name not in facts:
            claims.append(any_device(host.name))
            continue
        with suppress(_NotSuitableError):
            _check_engine(spec, facts[host.name])
            devices = _devices(host, facts[host.name], spec.resources)
            claims += [_resource(host.name, device) for device in devices]
    return claims


def accelerator_of(host: Host, facts: HostFacts) -> str:
    """What a host trains on: its GPUs, unless it has none or its limits admit none."""
    return "cpu" if host.limits.gpu_ids == () else facts.accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class _Obstacle:
    """Why a job cannot have a device now though it could later: `holder` has it, the job `before`
    waits for it too, or it is `busy` with what is not ours."""

    gpu: int | None
    reason: str
    holder: str = ""
    before: str = ""
    busy: str = ""


class _NotSuitableError(Exception):
    def __init__(self, reason: str, obstacles: list[_Obstacle] | None = None) -> None:
        super().__init__(reason)
        self.obstacles = obstacles or []


def _worker(
    host: Host, facts: HostFacts, wanted: Resources, taken: Taken | None
) -> tuple[PlannedWorker, list[_Obstacle], list[str]]:
    """The host as a worker, its GPUs that it does without, and warnings."""
    devices = _devices(host, facts, wanted)
    known = {gpu.index: gpu for gpu in facts.gpus}
    free: list[int | None] = []
    obstacles: list[_Obstacle] = []
    warnings: list[str] = []
    for device in devices:
        if taken is None:
            free.append(device)
        elif obstacle := _obstacle(host.name, device, taken):
            obstacles.append(obstacle)
        elif device is not None and (user := _foreign_user(known[device], facts)):
            if wanted.gpu_ids is None:
                reason = f"GPU {device} is used by {user}"
                obstacles.append(_Obstacle(gpu=device, reason=reason, busy=reason))
                continue
            free.append(device)
            warnings.append(f"{host.name} GPU {device} is used by {user} too: resources.gpu_ids")
        else:
            free.append(device)
    if not free or (wanted.gpu_ids and obstacles):
        told = "; ".join(dict.fromkeys(obstacle.reason for obstacle in obstacles))
        raise _NotSuitableError(told, obstacles)
    cores = [n for n in (host.limits.cpu_cores, wanted.cpu_cores) if n is not None]
    ram_gb = min((n for n in (host.limits.ram_gb, wanted.ram_gb) if n is not None), default=None)
    if ram_gb is not None:
        warnings.append(f"{host.name}: at most {ram_gb:g} GiB of memory, {_held(facts)}")
    worker = PlannedWorker(
        host=host.name,
        address=facts.address,
        accelerator="cpu" if free == [None] else facts.accelerator,
        ranks=tuple(PlannedRank(slot=0, gpu=gpu) for gpu in free),
        share=0.0,
        cpu_cores=min(cores, default=None),
        ram_gb=ram_gb,
    )
    return worker, obstacles, warnings


def _held(facts: HostFacts) -> str:
    """How a host keeps a job within its memory limit."""
    match facts.ram_limit:
        case RamLimit.SCOPE if facts.lingers or facts.user == "root":
            return "held by the kernel (a scope of systemd)"
        case RamLimit.SCOPE:
            return (
                "held by the kernel (a scope of systemd) if lingering can be switched on there, "
                "else watched every second"
            )
        case RamLimit.GROUP:
            return "held by the kernel (a control group)"
        case RamLimit.WATCH:
            return "watched every second: it offers no control group to the account"


def _check_engine(spec: JobSpec, facts: HostFacts) -> None:
    if spec.engine is Engine.ELASTIC and (facts.system, facts.arch) != _ELASTIC_ON:
        raise _NotSuitableError(
            f"engine: elastic needs torchft, whose wheels are for {' on '.join(_ELASTIC_ON)}, and "
            f"this is {facts.system} on {facts.arch}; set engine: static"
        )


def _engine(
    spec: JobSpec, workers: Sequence[PlannedWorker], facts: Mapping[str, HostFacts]
) -> tuple[str, tuple[str, ...]]:
    """The engine, and what there is to know of the choice where nobody asked for it."""
    if spec.engine is not Engine.AUTO:
        return str(spec.engine), ()
    if spec.mode is Mode.TEACHER_STUDENT:
        return "static", ()  # nobody adds anything
    if len(workers) == 1:
        host = workers[0].host
        if len(workers[0].ranks) > 1:
            return "static", (f"engine static: the GPUs of {host} add over NCCL",)
        return "static", ()  # it has nobody to agree with
    where = {
        worker.host: f"{facts[worker.host].system} on {facts[worker.host].arch}"
        for worker in workers
        if (facts[worker.host].system, facts[worker.host].arch) != _ELASTIC_ON
    }
    if where:
        those = ", ".join(f"{host} ({system})" for host, system in where.items())
        return "static", (f"engine static: there is no torchft for {those}",)
    if all(worker.accelerator == "cuda" for worker in workers):
        return "elastic", (
            "engine elastic: the GPUs' gradients are added up through the hosts' memory, so that a "
            "lost worker costs no step; engine: static adds them over NCCL",
        )
    return "elastic", ()


def _is_outside(host: Host, address: str) -> bool:
    """Whether a host is not in the network that the inventory says all share, nor told to be
    elsewhere by its internal_ip."""
    if host.cidr is None or host.internal_ip is not None:
        return False
    try:
        return ip_address(address) not in ip_network(host.cidr)
    except ValueError:  # what the host said is no address
        return True


def _devices(host: Host, facts: HostFacts, wanted: Resources) -> list[int | None]:
    """The devices of a host that the job may have: GPUs, or None for its CPU."""
    there = [gpu.index for gpu in facts.gpus]
    chosen = there
    for ids, source in (
        (host.limits.gpu_ids, "limits.gpu_ids"),
        (wanted.gpu_ids, "resources.gpu_ids"),
    ):
        if ids is None:
            continue
        if missing := sorted(set(ids) - set(there)):
            raise _NotSuitableError(f"has no GPU {missing[0]} ({source}); it has {there}")
        if forbidden := sorted(set(ids) - set(chosen)):
            raise _NotSuitableError(
                f"GPU {forbidden[0]} ({source}) is not among limits.gpu_ids {chosen}"
            )
        chosen = list(ids)
    needed = MIN_DISK["cpu" if not chosen else "cuda"]
    if facts.disk_free_bytes < needed:
        raise _NotSuitableError(
            f"{format_bytes(facts.disk_free_bytes)} free in {facts.workdir}, "
            f"{format_bytes(needed)} needed; free some space or set another workdir"
        )
    return list(chosen) or [None]


def _obstacle(host: str, device: int | None, taken: Taken) -> _Obstacle | None:
    resource = _resource(host, device)
    if before := taken.claimed.get(resource) or taken.claimed.get(any_device(host)):
        return _Obstacle(gpu=device, reason=f"{before} waits for it first", before=before)
    if holder := taken.leased.get(resource):
        return _Obstacle(gpu=device, reason=f"in use by {holder}", holder=holder)
    return None


def _foreign_user(gpu: Gpu, facts: HostFacts) -> str:
    """The processes on a GPU that no job of ours holds, in words."""
    users = [user for user in facts.gpu_processes if user.gpu and user.gpu == gpu.uuid]
    told = [f"{user.name} (pid {user.pid}, {format_bytes(user.vram_bytes)})" for user in users]
    more = f" and {len(told) - 2} more" if len(told) > 2 else ""
    return ", ".join(told[:2]) + more


def _wait(obstacles: Mapping[str, list[_Obstacle]]) -> str:
    """ "waits for hydra (j-7f3a), after j-81c0": what would have to become free."""
    held, before = [], []
    for host, found in obstacles.items():
        holders = dict.fromkeys(o.holder or o.busy for o in found if not o.before)
        if holders:
            held.append(f"{host} ({', '.join(holders)})")
        before += [o.before for o in found if o.before]
    more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
    parts = [f"waits for {', '.join(held[:_NAMED])}{more}"] if held else []
    if before:
        parts.append(f"after {', '.join(dict.fromkeys(before))}")
    return ", ".join(parts)


def _numbered(plan: Plan, given: Mapping[tuple[str, int | None], int]) -> Plan:
    """Gives out slots, to each device the one that it had, and shares: those that are predicted,
    or equal ones over the ranks."""
    fresh = count(max(given.values(), default=-1) + 1)
    shares = plan.prediction.shares if plan.prediction else {}
    workers = []
    for worker in plan.workers:
        ranks = tuple(
            PlannedRank(slot=_slot(given, fresh, worker.host, rank.gpu), gpu=rank.gpu)
            for rank in worker.ranks
        )
        share = shares.get(worker.host, len(ranks) / plan.world_size)
        workers.append(replace(worker, ranks=ranks, share=share))
    return replace(plan, workers=tuple(workers))


def _slot(
    given: Mapping[tuple[str, int | None], int], fresh: Iterator[int], host: str, gpu: int | None
) -> int:
    known = given.get((host, gpu))
    return next(fresh) if known is None else known


def _resource(host: str, gpu: int | None) -> str:
    return f"host {host}" if gpu is None else f"host {host} GPU {gpu}"


def _notices(spec: JobSpec, dataset: DatasetFacts, ranks: int) -> tuple[str, ...]:
    notices = []
    if spec.mode is Mode.TEACHER_STUDENT:
        notices.append(
            "each worker trains a student of its own on all rows; the best by the loss on held-out "
            "rows is named, all are kept"
        )
    size = spec.resolved_global_batch(dataset.rows, ranks)
    samples = dataset.rows * spec.epochs
    if spec.accumulated is not None:
        notices.append(
            f"global batch {size}: batch_size {spec.batch_size} x gradient_accumulation_steps "
            f"{spec.gradient_accumulation_steps} x {ranks} rank{'s' * (ranks != 1)}; it stays "
            "when ranks come or go"
        )
    elif spec.global_batch == "auto":
        known = f"from {dataset.rows:,} rows x {spec.epochs} epoch{'s' * (spec.epochs != 1)}"
        unknown = "the least, because only a worker can count the rows; set global_batch for more"
        notices.append(f"global batch {size}: {known if dataset.rows else unknown}")
    if size > samples > 0:
        notices.append(f"a step takes all {samples:,} samples, fewer than the global batch {size}")
    if spec.val_size:
        rows = f"~{dataset.rows * spec.val_size:,.0f} rows" if dataset.rows else "some rows"
        notices.append(f"val_size {spec.val_size:g}: {rows} are held out, so there are fewer steps")
    return tuple(notices)
