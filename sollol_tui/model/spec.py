"""The job spec: what a user asks for. The same keys in a file, as flags and in Python."""

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

STUDENT: Final = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"  # where only a teacher is named


class Mode(StrEnum):
    DATA_PARALLEL = "data_parallel"
    TEACHER_STUDENT = "teacher_student"
    HYBRID = "hybrid"

    @property
    def has_teacher(self) -> bool:
        return self is not Mode.DATA_PARALLEL


class Engine(StrEnum):
    AUTO = "auto"
    STATIC = "static"
    ELASTIC = "elastic"


_WARMUP_RATIO = 0.03
_STRICT: dict[str, Any] = {
    "extra": "forbid",
    "allow_inf_nan": False,
    "use_attribute_docstrings": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """LoRA, Hu et al. 2021. `target` is all-linear or the names of modules; `modules_to_save` are
    trained whole."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    r: Annotated[int, Ge(1), Le(4096)] = 32
    """The rank of the update."""
    alpha: Annotated[float, Gt(0)] = 64
    """Its scale: the update is multiplied by alpha / r."""
    dropout: Annotated[float, Ge(0), Le(0.9)] = 0.0
    """The share of its inputs that is dropped while training."""
    target: Annotated[str, MinLen(1)] | Annotated[list[Annotated[str, MinLen(1)]], MinLen(1)] = (
        "all-linear"
    )
    """all-linear, or the names of the modules that get an update."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that are trained whole and saved with the adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the job takes of each of its workers, within the worker's own limits."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    gpu_ids: tuple[Annotated[int, Ge(0)], ...] | None = None
    """These GPUs, also when other programs use them; none of them: its CPU. Left out: all free."""
    cpu_cores: Annotated[int, Ge(1)] | None = None
    """So many cores at most."""
    ram_gb: Annotated[float, Ge(0.1)] | None = None
    """So much memory at most, in GiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Whose answers the student learns, beside those of the dataset; asked once for each token."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    model: Annotated[str, MinLen(1)] | None = None
    """The teacher, a folder or a Hub id; left out, `model` is the teacher and `student` learns."""
    host: Annotated[str, MinLen(1)] = "coordinator"
    """Where it computes: a host, or several (HOST,HOST, a group, tag:NAME), which share the work,
    also that of one that is lost."""
    top_k: Annotated[int, Ge(1), Le(1024)] = 32
    """Of how many of its likeliest tokens the chances are kept."""
    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    """The share of the loss that is the dataset's; what is left of 1 is the teacher's."""
    temperature: Annotated[float, Gt(0), Le(100)] = 1.0
    """How much its chances are evened out before they are compared."""
    quantize: Literal["none", "nf4"] = "none"
    """nf4 holds the teacher in 4 bits, on a CUDA GPU."""
    text: bool = False
    """The student learns answers that the teacher writes; so it is where their tokens differ."""
    max_new_tokens: Annotated[int, Ge(1), Le(65_536)] = 256
    """Tokens of such an answer at most."""
    max_prompt_tokens: Annotated[int, Ge(1), Le(1_048_576)] = 512
    """Longer questions are left out."""
    sampling_temperature: Annotated[float, Ge(0), Le(10)] = 0.7
    """How much chance there is in such an answer; 0 for none."""
    top_p: Annotated[float, Gt(0), Le(1)] = 0.9
    """The likeliest tokens whose chances add up to this are chosen from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentLora:
    """What of `lora` is another for one student."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    r: Annotated[int, Ge(1), Le(4096)] | None = None
    """The rank of its update."""
    alpha: Annotated[float, Gt(0)] | None = None
    """The scale of its update."""
    dropout: Annotated[float, Ge(0), Le(0.9)] | None = None
    """The share of inputs that is dropped while it trains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """What is another for one of several students; what is left out is as for all of them."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    seed: Annotated[int, Ge(0), Le(2**31)] | None = None
    """Its seed; left out, that of the job and the number of its slot."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Its highest learning rate."""
    lora: StudentLora = field(default_factory=StudentLora)
    """What its adapter is."""

    def settings(self) -> dict[str, Any]:
        """What is said of it."""
        said = {key: getattr(self, key) for key in ("seed", "learning_rate")}
        said |= {f"lora.{each.name}": getattr(self.lora, each.name) for each in fields(self.lora)}
        return {key: value for key, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Who is told that the job is done, failed or stuck, or has lost a worker."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    bell: bool = True
    """Rings on the terminal that follows the job."""
    command: Annotated[str, MinLen(1)] | None = None
    """A program and its arguments, run here without a shell; it reads the event as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What to train on what, and how. `global_batch` is samples per optimizer step, `batch_size`
    samples in memory at once; the latter never changes what is learnt."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    model: Annotated[str, MinLen(1)]
    """A folder, or a Hub id."""
    dataset: Annotated[str, MinLen(1)]
    """A file, folder or pattern of rows (jsonl, json, csv, tsv, txt, parquet), or hub:NAME."""
    name: Annotated[str, MinLen(1)] | None = None
    """What to call the job; left out, made from dataset and model."""
    format: str | dict[str, str] = "auto"
    """auto, the name of a format, or which column is what."""
    val_size: Annotated[float, Ge(0), Lt(1)] = 0.0
    """The share of the rows that is held out, to measure the loss on."""
    epochs: Annotated[int, Ge(1), Le(10_000)] = 1
    """How often each row is seen."""
    global_batch: Annotated[int, Ge(1), Le(1_000_000)] | Literal["auto"] = "auto"
    """Samples per optimizer step; auto chooses by the number of rows alone."""
    batch_size: Annotated[int, Ge(1), Le(65_536)] | Literal["auto"] = 1
    """Samples in memory at once, auto measures what fits; never changes what is learnt."""
    gradient_accumulation_steps: Annotated[int, Ge(1), Le(65_536)] | None = None
    """Sets global_batch to batch_size x this x the planned ranks, for those who are used to it."""
    packing: bool | Literal["auto"] = "auto"
    """Whether samples lie end to end in one line; auto packs on GPUs where the model allows it."""
    max_length: Annotated[int, Ge(8), Le(1_048_576)] = 512
    """Tokens of a sample at most."""
    learning_rate: Annotated[float, Gt(0), Le(10)] = 2e-4
    """The highest learning rate, reached after warm-up."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after warm-up."""
    warmup_ratio: Annotated[float, Ge(0), Le(1)] = _WARMUP_RATIO
    """The share of the run in which the learning rate rises."""
    warmup_steps: Annotated[int, Ge(0)] | None = None
    """The steps in which it rises, instead of a share of the run."""
    weight_decay: Annotated[float, Ge(0), Le(10)] = 0.0
    """AdamW's weight decay."""
    max_grad_norm: Annotated[float, Ge(0)] = 1.0
    """Gradients longer than this are shortened to it; 0 for never."""
    loss_watchdog: Annotated[float, Ge(0)] = 3.0
    """Stops a run whose loss stays above so many times its best; 0 for never."""
    loss_watchdog_steps: Annotated[int, Ge(1)] = 20
    """For how many steps, one after the other, it must stay there."""
    lora: Lora = field(default_factory=Lora)
    """What the adapter is."""
    quantize: Literal["none", "nf4"] = "none"
    """nf4 holds the base in 4 bits, on CUDA GPUs."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Computes activations twice to save memory; auto does where one sample would not fit."""
    torch_compile: bool = False
    """Compiles the model before the first step, which takes minutes."""
    seed: Annotated[int, Ge(0), Le(2**31)] = 42
    """Decides the order of rows and the adapter's first weights."""
    mode: Mode = Mode.DATA_PARALLEL
    """How the workers share the work."""
    teacher: Teacher = field(default_factory=Teacher)
    """Whom the student learns from, with mode: hybrid."""
    student: Annotated[str, MinLen(1)] | None = None
    """Who learns where `model` is the teacher."""
    students: list[Student] = field(default_factory=list)
    """With mode: teacher_student, what differs from student to student, in the order of workers."""
    workers: str = "all"
    """Which hosts: a number, all, HOST,HOST, a group, tag:WORD, !HOST."""
    resources: Resources = field(default_factory=Resources)
    """What it takes of each worker."""
    engine: Engine = Engine.AUTO
    """How the ranks add their gradients; elastic goes on without a worker that is lost, and is what
    auto takes where every worker can."""
    wire: Literal["bf16", "fp32"] = "bf16"
    """Gradients between workers."""
    on_worker_loss: Literal["continue", "pause", "fail"] = "continue"
    """What the job does when a worker is lost: goes on with the others, pauses, or fails."""
    save_steps: Annotated[int, Ge(0)] = 200
    """A checkpoint every so many steps; 0 for none."""
    save_total_limit: Annotated[int, Ge(1), Le(1000)] = 3
    """How many checkpoints are kept."""
    eval_steps: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    """The held-out loss every so many steps, and at the end; auto is as often as checkpoints."""
    report_to: Literal["none", "tensorboard"] = "none"
    """Who else is told of losses."""
    notify: Notify = field(default_factory=Notify)
    """Who is told how the job fares."""
    output_dir: str = "./work/distributed_training/{name}-{id}"
    """Where the adapter goes on this machine."""
    start_timeout: Annotated[float, Ge(1), Le(86_400)] = 120.0
    """Seconds until every rank must be ready."""
    sample_prompts: list[str] = field(default_factory=list)
    """Prompts that the model answers before and after."""
    sample_tokens: Annotated[int, Ge(1), Le(4096)] = 48
    """Tokens of such an answer at most."""

    @property
    def accumulated(self) -> int | None:
        """Samples per optimizer step and rank, where they were asked for so."""
        if self.gradient_accumulation_steps is None or self.batch_size == "auto":
            return None
        return self.batch_size * self.gradient_accumulation_steps

    def contradiction(self) -> tuple[str, str] | None:
        """A key that cannot be meant beside another one, and why."""
        if not self.mode.has_teacher:
            for key in ("teacher", "student"):
                if getattr(self, key) not in (None, Teacher()):
                    return key, f"{key} means nothing with mode: {self.mode}; set mode: hybrid"
        if self.students and self.mode is not Mode.TEACHER_STUDENT:
            key = "students"
            return key, f"{key} means nothing with mode: {self.mode}; set mode: teacher_student"
        if self.mode is Mode.TEACHER_STUDENT and self.engine is Engine.ELASTIC:
            key = "engine"
            return key, f"{key}: elastic means nothing to students who learn apart; leave it out"
        if self.student is not None and self.teacher.model is not None:
            key = "student"
            return key, f"{key} and model both say who learns from teacher.model; keep one"
        if self.warmup_steps is not None and self.warmup_ratio != _WARMUP_RATIO:
            key = "warmup_steps"
            return key, f"{key} and warmup_ratio both say how long the rate rises; keep one"
        if self.gradient_accumulation_steps is None:
            return None
        key = "gradient_accumulation_steps"
        if self.global_batch != "auto":
            return key, f"{key} and global_batch both say how many samples a step has; keep one"
        if self.accumulated is None:
            return key, f"{key} needs a number as batch_size; set that, or set global_batch instead"
        return None

    def resolved_global_batch(self, rows: int, ranks: int) -> int:
        """Samples per optimizer step. Auto is the power of two nearest to rows x epochs / 1000,
        within 16 to 128: from the data alone, so that who trains never changes what is learnt."""
        if self.global_batch != "auto":
            return self.global_batch
        if self.accumulated is not None:
            return self.accumulated * ranks
        wanted = rows * self.epochs / 1000
        return min((16, 32, 64, 128), key=lambda size: (abs(size - wanted), size))

    def as_data(self) -> dict[str, Any]:
        """Plain data, as a job file holds it."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data


PARTS: Final[dict[str, type]] = {
    "lora": Lora,
    "teacher": Teacher,
    "resources": Resources,
    "notify": Notify,
}


def job_keys() -> list[str]:
    """Every key of a job file, those of `lora` and the like with their prefix."""
    own = [f.name for f in fields(JobSpec) if f.name not in PARTS]
    return [*own, *(f"{name}.{f.name}" for name, part in PARTS.items() for f in fields(part))]
