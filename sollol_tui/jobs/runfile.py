"""Writes a worker's run.json (docs/architecture.md): the strict side of the contract. Pure."""

from dataclasses import asdict
from typing import Any

from sollol_tui.jobs.worker import Place
from sollol_tui.model.inventory import Host
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.teacher import Path, PlannedTeacher, TeacherHost

_TRAIN_KEYS = (
    *("format", "epochs", "batch_size", "max_length", "learning_rate", "schedule", "warmup_ratio"),
    *("warmup_steps", "weight_decay", "max_grad_norm", "lora", "seed", "wire", "save_steps"),
    *("packing", "quantize", "gradient_checkpointing", "torch_compile", "val_size", "eval_steps"),
    *("report_to", "loss_watchdog", "loss_watchdog_steps", "sample_prompts", "sample_tokens"),
    "save_total_limit",
)


def run_file(
    *,
    job: str,
    nonce: str,
    spec: JobSpec,
    plan: Plan,
    host: Host,
    place: Place,
    generation: int,
    main_port: int,
) -> dict[str, Any]:
    """What the agent of `host` is told. A slot stays with its device; ranks are counted anew."""
    asked = spec.as_data()
    if plan.teacher is not None and plan.teacher.answers:
        asked["format"] = "auto"  # of what the teacher wrote, not of what it read
    ranks = [(worker, rank) for worker in plan.workers for rank in worker.ranks]
    if plan.apart:
        ranks = [(worker, rank) for worker, rank in ranks if worker.host == host.name]
        asked = _student(asked, spec, ranks[0][1].slot)
    return {
        "v": 1,
        "job": job,
        "nonce": nonce,
        "python": place.environment.python,
        "payload": place.environment.payload,
        "host": host.name,
        "generation": generation,
        "engine": plan.engine,
        "world": [
            {
                "slot": rank.slot,
                "rank": number,
                "host": worker.host,
                "address": worker.address,
                "gpu": rank.gpu,
            }
            for number, (worker, rank) in enumerate(ranks)
        ],
        "main_port": plan.meeting_port(host.name, main_port),
        "lighthouses": [asdict(light) for light in plan.lighthouses(main_port)],
        "start_timeout_s": spec.start_timeout,
        "cpu_cores": plan.worker(host.name).cpu_cores,
        "ram_gb": plan.worker(host.name).ram_gb,
        "nice": host.nice,
        "env": host.env,
        "model": place.model,
        "model_name": spec.model,
        "dataset": place.dataset,
        "train": {key: asked[key] for key in _TRAIN_KEYS} | {"global_batch": plan.global_batch},
    } | _lesson(spec, plan.teacher)


def _student(asked: dict[str, Any], spec: JobSpec, slot: int) -> dict[str, Any]:
    """The settings of one of several students, who keeps them with its slot."""
    said = spec.students[slot % len(spec.students)].settings() if spec.students else {}
    own = asked | {"seed": asked["seed"] + slot, "lora": dict(asked["lora"])}
    for key, value in said.items():
        part, _, name = key.rpartition(".")
        (own[part] if part else own)[name] = value
    return own


def teacher_run_file(
    student: dict[str, Any],
    spec: JobSpec,
    teacher: PlannedTeacher,
    host: TeacherHost,
    model: str,
    launch: int,
    part: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """What the agent of a teacher's host is told: as a student of that host would be, but alone.
    `model` is where the teacher lies there, `part` which of how many it scores."""
    scores = teacher.lesson.path is Path.SCORES
    rank = {"slot": 0, "rank": 0, "host": host.host, "address": host.address, "gpu": host.gpu}
    told = {
        "teacher": model,
        "part": part[0],
        "parts": part[1],
    }
    return student | {
        "program": "distill.score" if scores else "distill.answer",
        "engine": "static",
        "generation": launch,
        "world": [rank],
        "main_port": 0,
        "lighthouses": [],
        "cpu_cores": host.cpu_cores,
        "ram_gb": host.ram_gb,
        "distill": distill(spec, teacher) | told,
    }


def distill(spec: JobSpec, teacher: PlannedTeacher) -> dict[str, Any]:
    """What students and teachers of a job agree on."""
    asked = spec.teacher
    return {
        "teacher": None,
        "teacher_name": teacher.lesson.model,
        "teacher_hash": teacher.content,
        "top_k": asked.top_k,
        "temperature": asked.temperature,
        "alpha": asked.alpha,
        "quantize": asked.quantize,
        "answers": {
            "max_new_tokens": asked.max_new_tokens,
            "max_prompt_tokens": asked.max_prompt_tokens,
            "temperature": asked.sampling_temperature,
            "top_p": asked.top_p,
            "seed": spec.seed,
        },
    }


def _lesson(spec: JobSpec, teacher: PlannedTeacher | None) -> dict[str, Any]:
    """Who learns a teacher's answers knows nothing of it: they are a dataset like any."""
    if teacher is None or teacher.lesson.path is Path.ANSWERS:
        return {}
    return {"distill": distill(spec, teacher)}
