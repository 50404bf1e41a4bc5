"""From what is known of hosts, network and model to what a plan promises and whether it fits. Pure.

Measured figures go before estimates; what is neither is left out, and the plan says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Final

from sollol_tui.jobs.measured import Device, Measured
from sollol_tui.model.devices import flops_of_cpu, flops_of_gpu, tokens_per_s
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.plan import BYTES_PER_TOKEN, DatasetFacts, PlannedWorker
from sollol_tui.model.prediction import WIRE_BYTES, HostSpeed, Prediction, Wire
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.units import GIB, format_bytes
from sollol_tui.model.weights import Memory, Need, Weights, need_of

_LINE_PART: Final = 0.94  # of a line's rate, that TCP's payload gets over Ethernet
_LATENCY_S: Final = 0.0003  # of an ordinary local network


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What predictions stand on, beside the facts of the hosts."""

    model: str = ""
    weights: Weights | None = None
    measured: Measured = field(default_factory=Measured)


def predict(
    spec: JobSpec,
    workers: tuple[PlannedWorker, ...],
    facts: Mapping[str, HostFacts],
    dataset: DatasetFacts,
    global_batch: int,
    known: Known,
) -> Prediction | None:
    """What these workers will do together; None when of one of them no speed is known."""
    speeds = [_speed(worker, facts[worker.host], known) for worker in workers]
    hosts = tuple(speed for speed in speeds if speed is not None)
    if len(hosts) < len(workers):
        return None
    trained = known.weights.trained(spec.lora) if known.weights else None
    ranks = sum(host.ranks for host in hosts)
    adding = known.measured.sum_of([host.host for host in hosts], ranks)
    return Prediction(
        hosts=hosts,
        wires=tuple(
            wire
            for one, other in permutations(workers, 2)
            if (wire := _wire(one, other, facts, known.measured)) is not None
        ),
        global_batch=global_batch,
        sample_tokens=sample_tokens(spec, dataset),
        gradient_bytes=None if trained is None else trained * WIRE_BYTES[spec.wire],
        wire=spec.wire,
        rest_s=adding.rest_s if adding else 0.0,
        measured_sum=adding,
    )


def misfit(spec: JobSpec, facts: HostFacts, worker: PlannedWorker, known: Known) -> str | None:
    """Why a worker certainly cannot hold the job, or None: base, adapter and optimizer alone are
    more than its memory, or the checkpoints more than its disk."""
    if known.weights is None:
        return None
    need = need_of(known.weights, spec, on_gpu=worker.accelerator != "cpu")
    whole, of = memory_room(facts, worker, free=False)
    if need.kept > whole:
        smaller = (
            "train a smaller model"
            if spec.quantize == "nf4" or worker.accelerator == "cpu"
            else "set quantize: nf4, or train a smaller model"
        )
        return (
            f"model and adapter need {format_bytes(need.kept)} before the first sample, and {of} "
            f"has {format_bytes(whole)}; {smaller}"
        )
    disk = _disk_bytes(need, spec)
    if disk > facts.disk_free_bytes:
        return (
            f"{spec.save_total_limit} checkpoints need {format_bytes(disk)} in {facts.workdir}, "
            f"and {format_bytes(facts.disk_free_bytes)} are free; lower save_total_limit"
        )
    return None


def memory_of(
    spec: JobSpec,
    facts: Mapping[str, HostFacts],
    workers: tuple[PlannedWorker, ...],
    known: Known,
) -> Memory | None:
    """What the plan says of memory and disk: the worker with the least room of each."""
    if known.weights is None:
        return None
    tight, disk = [], []
    warnings: dict[str, list[str]] = {}
    for worker in workers:
        need = need_of(known.weights, spec, on_gpu=worker.accelerator != "cpu")
        room, of = memory_room(facts[worker.host], worker, free=True)
        tight.append((need.usual / max(room, 1), need.usual, room, worker.host))
        disk.append(facts[worker.host].disk_free_bytes)
        if warning := _warning(spec, need, room, of):
            warnings.setdefault(warning, []).append(worker.host)
        disk_bytes = _disk_bytes(need, spec)
    _, peak, room, host = max(tight)
    return Memory(
        peak_bytes=peak,
        of_bytes=room,
        host=host,
        disk_bytes=disk_bytes,
        disk_free_bytes=min(disk),
        checkpoints=spec.save_total_limit,
        warnings=tuple(f"{', '.join(where)}: {warning}" for warning, where in warnings.items()),
    )


def _warning(spec: JobSpec, need: Need, room: int, of: str) -> str | None:
    """What may go wrong on a worker; many may be alike."""
    if need.least > room:
        return (
            f"memory may run out: ~{format_bytes(need.least)} for one sample of {spec.max_length} "
            f"tokens, and {of} has {format_bytes(room)}; lower max_length, or train a smaller model"
        )
    if need.usual <= room:
        return None
    sparing = spec.gradient_checkpointing is not False and spec.batch_size == 1
    how = "gradient checkpointing" if sparing else "fewer samples at once"
    return (
        f"{how} will be needed: ~{format_bytes(need.usual)} as asked, and {of} has "
        f"{format_bytes(room)}; what is learnt stays the same"
    )


def _disk_bytes(need: Need, spec: JobSpec) -> int:
    """The checkpoints that are kept, and one more while it is written."""
    return need.checkpoint * (spec.save_total_limit + 1)


def memory_room(facts: HostFacts, worker: PlannedWorker, *, free: bool) -> tuple[int, str]:
    """What one rank of a worker may have, and of what: the smallest of its GPUs, or RAM."""
    used = {rank.gpu for rank in worker.ranks}
    gpus = [gpu for gpu in facts.gpus if gpu.index in used]
    if gpus:
        gpu = min(gpus, key=lambda gpu: gpu.vram_bytes)
        return gpu.vram_bytes, f"its {gpu.name}"
    room = facts.ram_available_bytes if free else facts.ram_bytes
    if worker.ram_gb is not None and worker.ram_gb * GIB < room:
        return int(worker.ram_gb * GIB), "ram_gb"
    return room, "its free memory" if free else "it"


def sample_tokens(spec: JobSpec, dataset: DatasetFacts) -> float:
    """Tokens of a sample on average, at most max_length; half of that where nobody has read it."""
    known = dataset.mean_chars / BYTES_PER_TOKEN if dataset.rows else spec.max_length / 2
    return max(1.0, min(known, float(spec.max_length)))


def _speed(worker: PlannedWorker, facts: HostFacts, known: Known) -> HostSpeed | None:
    """Of all ranks of a worker together; a rank that was not measured makes it an estimate."""
    parameters = known.weights.parameters if known.weights else None
    total, sources = 0.0, []
    is_measured = True
    for rank in worker.ranks:
        device = Device(host=worker.host, gpu=rank.gpu, cpu_cores=worker.cpu_cores)
        if found := known.measured.speed(device, known.model, parameters):
            total += found.tokens_per_s
            sources.append(f"measured in {found.job}")
            continue
        gpu = next((gpu for gpu in facts.gpus if gpu.index == rank.gpu), None)
        cores = min(worker.cpu_cores or facts.cpu_cores, facts.cpu_cores)
        flops = flops_of_cpu(cores) if gpu is None else flops_of_gpu(gpu.name)
        if parameters is None or flops is None:
            return None
        total += tokens_per_s(flops, parameters)
        cpu = f"{cores} core{'s' * (cores != 1)}"
        sources.append(f"by its {gpu.name if gpu else cpu}")
        is_measured = False
    return HostSpeed(
        host=worker.host,
        ranks=len(worker.ranks),
        tokens_per_s=total,
        is_measured=is_measured,
        source=", ".join(dict.fromkeys(sources)),
    )


def _wire(
    one: PlannedWorker, other: PlannedWorker, facts: Mapping[str, HostFacts], measured: Measured
) -> Wire | None:
    """One direction: as the doctor measured it, else by the slower of the two interfaces."""
    if found := measured.links.get((one.host, other.host)):
        rate, latency_s = found
        source, is_measured = "measured by the doctor", True
    else:
        speeds = [_interface_mbit(facts[worker.host], worker.address) for worker in (one, other)]
        known = [speed for speed in speeds if speed is not None]
        if len(known) < 2:
            return None
        rate, latency_s = min(known) * 1e6 / 8 * _LINE_PART, _LATENCY_S
        source, is_measured = "by their interfaces", False
    return Wire(
        origin=one.host,
        target=other.host,
        bytes_per_s=rate,
        latency_s=latency_s,
        is_measured=is_measured,
        source=source,
    )


def _interface_mbit(facts: HostFacts, address: str) -> int | None:
    return next((each.speed_mbit for each in facts.interfaces if each.address == address), None)
