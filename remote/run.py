"""What run.json says: the job as one worker's agent and ranks need it. Reads, never decides."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from remote.schedule import SHAPES

FILE = "run.json"
VERSION = 1
WIRES = ("fp32", "bf16")
_DISTILLERS = ("distill.score", "distill.answer")
PROGRAMS = ("train", "evaluate", "merge", *_DISTILLERS)  # modules of this package


class RunError(ValueError):
    """run.json cannot be used; the message says which key and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One training process of the job, wherever it runs."""

    slot: int
    rank: int
    host: str
    address: str
    gpu: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lighthouse:
    """Where one of an elastic job's lighthouses listens, and the host whose agent keeps it."""

    host: str
    address: str
    port: int

    @property
    def url(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    r: int = 32
    alpha: float = 64
    dropout: float = 0.0
    target: str | list[str] = "all-linear"
    modules_to_save: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """How to train. `warmup_steps`, where given, count instead of `warmup_ratio`, a share of the
    run. `global_batch` is samples per optimizer step; `batch_size` samples in memory at
    once (None: as many as fit), which never changes what is learnt; `save_steps` 0 keeps only the
    last checkpoint; None leaves `packing` and `gradient_checkpointing` to each rank, and makes
    `eval_steps` equal to `save_steps`; `loss_watchdog` 0 watches nothing."""

    format: str | dict[str, str] = "auto"
    epochs: int = 1
    global_batch: int = 32
    batch_size: int | None = 1
    packing: bool | None = None
    gradient_checkpointing: bool | None = None
    torch_compile: bool = False
    quantize: str = "none"
    max_length: int = 512
    learning_rate: float = 2e-4
    schedule: str = "cosine"
    warmup_ratio: float = 0.03
    warmup_steps: int | None = None
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora: Lora = field(default_factory=Lora)
    seed: int = 42
    wire: str = "fp32"
    save_steps: int = 200
    save_total_limit: int = 3
    val_size: float = 0.0
    eval_steps: int | None = None
    report_to: str = "none"
    loss_watchdog: float = 3.0
    loss_watchdog_steps: int = 20
    sample_prompts: list[str] = field(default_factory=list)
    sample_tokens: int = 48

    def warmup_samples(self, total: int) -> float:
        """Over how many of the `total` samples of the run the learning rate rises."""
        if self.warmup_steps is None:
            return self.warmup_ratio * total
        return min(self.warmup_steps * self.global_batch, total)

    @property
    def evaluated_every(self) -> int:
        """Steps between two looks at the held-out rows; 0: only at the end."""
        return self.save_steps if self.eval_steps is None else self.eval_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How a teacher writes answers; `temperature` 0 leaves nothing to chance."""

    max_new_tokens: int = 256
    max_prompt_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Distill:
    """What a teacher is to a run. `teacher` is what this host loads of it (None: a student's),
    `teacher_hash` names its content; a student's loss is alpha CE + (1 - alpha) T^2 KL. A scorer
    makes every `parts`-th shard, from shard `part` on."""

    teacher: str | None = None
    teacher_name: str
    teacher_hash: str
    top_k: int = 32
    temperature: float = 1.0
    alpha: float = 0.5
    quantize: str = "none"
    part: int = 0
    parts: int = 1
    answers: Answers = field(default_factory=Answers)

    def __post_init__(self) -> None:
        if not (0 <= self.alpha <= 1 and self.temperature > 0 and self.top_k >= 1):
            raise RunError(
                f"run.json has distill.alpha {self.alpha}, temperature {self.temperature} and "
                f"top_k {self.top_k}; they are 0 to 1, above 0, and at least 1"
            )
        if not 0 <= self.part < self.parts:
            raise RunError(f"run.json has distill.part {self.part} of {self.parts} parts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    job: str
    nonce: str = ""  # tells it from a job of the same id that another coordinator started
    host: str
    generation: int
    program: str = "train"  # what each rank runs
    engine: str
    world: tuple[Rank, ...]
    main_port: int
    lighthouses: tuple[Lighthouse, ...] = ()  # in the order in which ranks ask them
    start_timeout_s: float = 120.0
    cpu_cores: int | None = None
    ram_gb: float | None = None  # GiB, of all that this host runs of the job
    nice: int = 0
    env: dict[str, str] = field(default_factory=dict)
    model: str  # what this host loads: a folder or a name on the hub
    model_name: str | None = None  # the same model as the user named it
    dataset: str
    train: Train
    samples: int = 0  # held-out rows that an evaluation answers
    distill: Distill | None = None  # where a teacher has a part in it

    @property
    def base_name(self) -> str:
        """What the result calls its base model: a worker's folder means nothing elsewhere."""
        return self.model_name or self.model

    @property
    def meeting(self) -> str:
        """What its launches and ranks meet under: they see nobody else in a store they share."""
        return f"{self.job}.{self.generation}.{self.nonce}"

    @property
    def main_address(self) -> str:
        return next(rank.address for rank in self.world if rank.rank == 0)

    @property
    def ram_bytes(self) -> int | None:
        return None if self.ram_gb is None else int(self.ram_gb * 1024**3)

    @property
    def own_ranks(self) -> tuple[Rank, ...]:
        """The ranks that this host's agent starts."""
        return tuple(rank for rank in self.world if rank.host == self.host)

    @property
    def is_elastic(self) -> bool:
        """Whether it goes on without a rank that is lost, and takes one back."""
        return self.engine == "elastic"

    @property
    def shares_a_world(self) -> bool:
        """Whether its ranks are launched as one world, which meets at the main port."""
        return self.program == "train" and not self.is_elastic

    @property
    def own_lighthouses(self) -> tuple[Lighthouse, ...]:
        """The lighthouses that this host's agent keeps."""
        return tuple(light for light in self.lighthouses if light.host == self.host)

    def rank_of_slot(self, slot: int) -> Rank:
        return next(rank for rank in self.world if rank.slot == slot)


def parse_run(data: Any) -> Run:
    """Reads the content of run.json. Keys it does not know are left alone (a newer coordinator may
    write them); a missing or misshapen one is a RunError that names it."""
    if not isinstance(data, dict):
        raise RunError(f"run.json holds {type(data).__name__}, not an object")
    if data.get("v") != VERSION:
        raise RunError(f"run.json has version {data.get('v')!r}; this payload reads {VERSION}")
    try:
        train = _known(Train, data["train"])
        for key in ("batch_size", "packing", "gradient_checkpointing", "eval_steps"):
            if train.get(key) == "auto":
                train[key] = None
        train["lora"] = Lora(**_known(Lora, train.get("lora", {})))
        known = _known(Run, data)
        known["world"] = tuple(Rank(**_known(Rank, rank)) for rank in data["world"])
        known["lighthouses"] = tuple(
            Lighthouse(**_known(Lighthouse, light)) for light in data.get("lighthouses", ())
        )
        known["train"] = Train(**train)
        if known.get("distill") is not None:
            distill = _known(Distill, known["distill"])
            distill["answers"] = Answers(**_known(Answers, distill.get("answers", {})))
            known["distill"] = Distill(**distill)
        run = Run(**known)
    except KeyError as error:
        raise RunError(f"run.json lacks {error}") from None
    except TypeError as error:
        raise RunError(f"run.json does not have the expected shape: {error}") from None
    if not run.own_ranks:
        raise RunError(f"run.json gives host {run.host!r} no rank")
    if sorted(rank.rank for rank in run.world) != list(range(len(run.world))):
        raise RunError("run.json does not number its ranks 0, 1, 2, ...")
    if run.program not in PROGRAMS:
        raise RunError(
            f"run.json has program {run.program!r}; this payload knows {', '.join(PROGRAMS)}"
        )
    if run.program in _DISTILLERS and (
        run.distill is None or run.distill.teacher is None or len(run.world) > 1
    ):
        raise RunError(f"run.json has program {run.program} and no distill.teacher for one rank")
    choices: dict[str, Collection[str]] = {"schedule": SHAPES, "wire": WIRES}
    for key, names in choices.items():
        if (said := getattr(run.train, key)) not in names:
            raise RunError(
                f"run.json has train.{key} {said!r}; this payload knows {', '.join(names)}"
            )
    if run.is_elastic and not run.lighthouses:
        raise RunError("run.json names no lighthouses, which the elastic engine needs")
    return run


def read_run(run_dir: Path) -> Run:
    return parse_run(json.loads((run_dir / FILE).read_bytes()))


def _known(kind: type, data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"{kind.__name__.lower()} is {type(data).__name__}, not an object")
    return {f.name: data[f.name] for f in fields(kind) if f.name in data}
