"""The job spec: what a user asks for. The same keys in a file, as flags and in Python."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen


class Mode(StrEnum):
    DATA_PARALLEL = "data_parallel"


class Engine(StrEnum):
    AUTO = "auto"
    STATIC = "static"


_STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """LoRA, Hu et al. 2021. `target` is all-linear or the names of modules; `modules_to_save` are
    trained whole."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    r: Annotated[int, Ge(1), Le(4096)] = 32
    alpha: Annotated[float, Gt(0)] = 64
    dropout: Annotated[float, Ge(0), Le(0.9)] = 0.0
    target: str | list[str] = "all-linear"
    modules_to_save: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What to train on what, and how. `global_batch` is samples per optimizer step, `batch_size`
    samples in memory at once; the latter never changes what is learnt."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    model: Annotated[str, MinLen(1)]
    dataset: Annotated[str, MinLen(1)]
    name: Annotated[str, MinLen(1)] | None = None
    format: str | dict[str, str] = "auto"
    epochs: Annotated[int, Ge(1), Le(10_000)] = 1
    global_batch: Annotated[int, Ge(1), Le(1_000_000)] | Literal["auto"] = "auto"
    batch_size: Annotated[int, Ge(1), Le(65_536)] = 1
    max_length: Annotated[int, Ge(8), Le(1_048_576)] = 512
    learning_rate: Annotated[float, Gt(0), Le(10)] = 2e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Annotated[float, Ge(0), Le(1)] = 0.03
    weight_decay: Annotated[float, Ge(0), Le(10)] = 0.0
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    lora: Lora = field(default_factory=Lora)
    seed: Annotated[int, Ge(0), Le(2**31)] = 42
    mode: Mode = Mode.DATA_PARALLEL
    workers: str = "all"
    engine: Engine = Engine.AUTO
    wire: Literal["bf16", "fp32"] = "bf16"
    save_steps: Annotated[int, Ge(0)] = 200
    save_total_limit: Annotated[int, Ge(1), Le(1000)] = 3
    output_dir: str = "./work/distributed_training/{name}-{id}"
    start_timeout: Annotated[float, Ge(1), Le(86_400)] = 120.0
    sample_prompts: list[str] = field(default_factory=list)
    sample_tokens: Annotated[int, Ge(1), Le(4096)] = 48

    def resolved_global_batch(self, rows: int) -> int:
        """Samples per optimizer step. Auto is the power of two nearest to rows x epochs / 1000,
        within 16 to 128: from the data alone, so that who trains never changes what is learnt."""
        if self.global_batch != "auto":
            return self.global_batch
        wanted = rows * self.epochs / 1000
        return min((16, 32, 64, 128), key=lambda size: (abs(size - wanted), size))

    def max_steps(self, rows: int) -> int:
        """Optimizer steps of the run; the last one of the run may be short."""
        return -(-rows * self.epochs // self.resolved_global_batch(rows))

    def as_data(self) -> dict[str, Any]:
        """Plain data, as a job file holds it."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data


# Names of TRL, axolotl, LLaMA-Factory and HF TrainingArguments for the same thing.
ALIASES: Mapping[str, str] = {
    "base_model": "model",
    "model_name_or_path": "model",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "micro_batch_size": "batch_size",
    "max_seq_length": "max_length",
    "sequence_len": "max_length",
    "cutoff_len": "max_length",
    "lr": "learning_rate",
    "lr_scheduler_type": "schedule",
    "lr_scheduler": "schedule",
    "lora_r": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.target",
}


def job_keys() -> list[str]:
    """Every key of a job file, those of `lora` with their prefix."""
    own = [f.name for f in fields(JobSpec) if f.name != "lora"]
    return [*own, *(f"lora.{f.name}" for f in fields(Lora))]
