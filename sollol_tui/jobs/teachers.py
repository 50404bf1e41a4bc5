"""Decides where a job's teacher computes and what that takes, or says why it cannot be. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from sollol_tui.jobs.leases import Taken
from sollol_tui.jobs.planner import plan_worker
from sollol_tui.jobs.predict import memory_room, sample_tokens
from sollol_tui.model.devices import flops_of_cpu, flops_of_gpu
from sollol_tui.model.errors import NoWorkersError, UnsuitableError
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan, PlannedWorker
from sollol_tui.model.spec import Engine, JobSpec, Resources
from sollol_tui.model.teacher import Lesson, Path, PlannedTeacher, TeacherHost
from sollol_tui.model.units import format_bytes
from sollol_tui.model.weights import BF16, FP32, NF4, RUNTIME_BYTES

_OPERATIONS: Final = 2  # per parameter and token of a model that only reads


def teacher_hosts(spec: JobSpec, inventory: Inventory) -> tuple[Host, ...]:
    """The hosts on which the teacher may compute, in the order in which they are named, or that of
    the inventory where a pattern means them; none without a teacher. Raises NotFoundError."""
    if not spec.mode.has_teacher:
        return ()
    everyone = inventory.with_coordinator()
    names = [name.strip() for name in spec.teacher.host.split(",")]
    patterns = {"all", *inventory.groups}
    if any(name in patterns or name.startswith(("tag:", "!")) for name in names):
        return select(inventory, spec.teacher.host).hosts
    return tuple(everyone.host(name) for name in dict.fromkeys(names))


def with_teacher(
    plan: Plan,
    spec: JobSpec,
    asked: Lesson | PlannedTeacher | None,
    hosts: Sequence[Host],
    facts: Mapping[str, HostFacts],
    unusable: Mapping[str, str],
    taken: Taken | None,
) -> Plan:
    """The plan with its teacher, as it was `asked` for or planned before. A host that is a worker
    too shares its first device with it. Of several hosts those that cannot be had, or cannot hold
    the teacher, are left out. Raises NoWorkersError when none is left."""
    if asked is None:
        return plan
    lesson = asked if isinstance(asked, Lesson) else asked.lesson
    found: list[PlannedWorker] = []
    rooms: list[tuple[int, int]] = []
    refused: dict[str, NoWorkersError] = {}
    for host in hosts:
        try:
            worker = _host(plan, spec, host, facts, unusable, taken)
            rooms.append(_check_fit(spec, worker, facts[host.name], lesson.parameters))
        except NoWorkersError as error:
            refused[host.name] = error
        else:
            found.append(worker)
            if lesson.path is Path.ANSWERS:
                break  # what is written there is one file
    if not found:
        raise _nowhere(spec, refused)
    read = plan.prediction.samples_per_s if plan.prediction else None
    tokens = sample_tokens(spec, plan.dataset)
    teacher = PlannedTeacher(
        lesson=lesson,
        hosts=tuple(_with_speed(worker, facts[worker.host], lesson) for worker in found),
        top_k=spec.teacher.top_k,
        tokens=plan.rows * tokens,
        students_per_s=None if read is None else read * tokens,
        need_bytes=max(need for need, _ in rooms) if lesson.parameters is not None else None,
        room_bytes=min(room for _, room in rooms),
        left_out={name: _reason(error) for name, error in refused.items()},
    )
    if isinstance(asked, PlannedTeacher):
        teacher = replace(teacher, content=asked.content, answers=asked.answers)
    return replace(plan, teacher=teacher)


def _host(
    plan: Plan,
    spec: JobSpec,
    host: Host,
    facts: Mapping[str, HostFacts],
    unusable: Mapping[str, str],
    taken: Taken | None,
) -> PlannedWorker:
    """The host with the one device that the teacher gets."""
    for worker in plan.workers:
        if worker.host == host.name:
            return replace(worker, ranks=worker.ranks[:1])
    if host.name not in facts:
        raise _cannot(host.name, unusable.get(host.name, "was not asked"))
    alone = replace(spec, resources=Resources(), engine=Engine.STATIC)
    try:
        worker, _ = plan_worker(alone, host, facts[host.name], taken or Taken())
    except UnsuitableError as error:
        wait = ""
        if taken is not None:
            try:
                plan_worker(alone, host, facts[host.name], Taken())
                wait = f"waits for the teacher's host {host.name}: {error.message}"
            except UnsuitableError:
                pass
        raise _cannot(host.name, error.message, wait) from None
    return replace(worker, ranks=worker.ranks[:1])


def _nowhere(spec: JobSpec, refused: Mapping[str, NoWorkersError]) -> NoWorkersError:
    """What a person reads where no host can have the teacher."""
    if len(refused) == 1:
        return next(iter(refused.values()))
    return NoWorkersError(
        f"the teacher cannot compute on any host of {spec.teacher.host} now",
        {host: _reason(error) for host, error in refused.items()},
        remedy="name another host with --teacher-host",
        wait=next((error.wait for error in refused.values() if error.wait), ""),
    )


def _cannot(host: str, reason: str, wait: str = "") -> NoWorkersError:
    return NoWorkersError(
        f"the teacher cannot compute on {host} now",
        {host: reason},
        remedy="name another host with --teacher-host",
        wait=wait,
    )


def _with_speed(worker: PlannedWorker, facts: HostFacts, lesson: Lesson) -> TeacherHost:
    [rank] = worker.ranks
    gpu = next((gpu for gpu in facts.gpus if gpu.index == rank.gpu), None)
    cores = min(worker.cpu_cores or facts.cpu_cores, facts.cpu_cores)
    flops = flops_of_cpu(cores) if gpu is None else flops_of_gpu(gpu.name)
    speed = None
    if flops is not None and lesson.parameters:
        speed = flops / (_OPERATIONS * lesson.parameters)
    return TeacherHost(
        host=worker.host,
        address=worker.address,
        accelerator=worker.accelerator,
        gpu=rank.gpu,
        cpu_cores=worker.cpu_cores,
        ram_gb=worker.ram_gb,
        tokens_per_s=speed,
    )


def _reason(error: NoWorkersError) -> str:
    """Why a host is left out."""
    return next(iter(error.reasons.values()), error.message)


def _check_fit(
    spec: JobSpec, worker: PlannedWorker, facts: HostFacts, parameters: int | None
) -> tuple[int, int]:
    """What the teacher needs on a host and what there is; nothing where its size is not known.
    Raises NoWorkersError, which says what would fit."""
    if spec.teacher.quantize != "none" and worker.accelerator != "cuda":
        raise _cannot(worker.host, f"teacher.quantize: {spec.teacher.quantize} needs a CUDA GPU")
    if parameters is None:
        return 0, 0
    on_gpu = worker.accelerator != "cpu"
    need = _need(parameters, spec.teacher.quantize if on_gpu else "none", on_gpu=on_gpu)
    room, of = memory_room(facts, worker, free=False)
    if need <= room:
        return need, room
    smaller = _need(parameters, "nf4", on_gpu=True)
    fits = []
    if on_gpu and spec.teacher.quantize != "nf4" and smaller <= room:
        fits.append(f"teacher.quantize: nf4 (~{format_bytes(smaller)})")
    per_number = BF16 if on_gpu else FP32
    most = int((room - RUNTIME_BYTES) / per_number)
    if most > 0:
        fits.append(f"a teacher of at most ~{most / 1e9:.1f} billion parameters")
    raise NoWorkersError(
        f"the teacher does not fit on {worker.host}: its {parameters / 1e9:.2f} billion parameters "
        f"take ~{format_bytes(need)}, and {of} has {format_bytes(room)}",
        {},
        remedy=f"what fits: {', or '.join([*fits, 'another host with --teacher-host'])}",
    )


def _need(parameters: int, quantize: str, *, on_gpu: bool) -> int:
    per_number = NF4 if quantize == "nf4" else BF16 if on_gpu else FP32
    return int(parameters * per_number + RUNTIME_BYTES)
