"""What keys of TRL, axolotl, LLaMA-Factory and HF TrainingArguments mean here, and which values of
them. Pure. Never passes over a setting that sollol would not follow: that is refused with what to
do instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# Other names of the same thing, with the same values.
ALIASES: Final[Mapping[str, str]] = {
    "base_model": "model",
    "model_name_or_path": "model",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "micro_batch_size": "batch_size",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "sequence_len": "max_length",
    "cutoff_len": "max_length",
    "lr": "learning_rate",
    "lr_scheduler_type": "schedule",
    "lr_scheduler": "schedule",
    "sample_packing": "packing",
    "val_set_size": "val_size",
    "bnb_4bit_quant_type": "quantize",
    "lora_r": "lora.r",
    "lora_rank": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.target",
    "lora_target": "lora.target",
    "lora_modules_to_save": "lora.modules_to_save",
    "additional_target": "lora.modules_to_save",
}

# Other words for values of our own keys.
VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "schedule": {"constant_with_warmup": "constant"},  # ours warms up by warmup_ratio in any case
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A key that has none of ours to stand for. `means` has the values that can be followed, each
    with the setting that it is here, or None where sollol does that in any case; any other value
    is answered with `otherwise`. A key without a value says nothing."""

    means: tuple[tuple[Any, tuple[str, Any] | None], ...] = ()
    otherwise: str


class RefusedError(ValueError):
    """A setting of another trainer that sollol cannot follow; the message says what to do."""


_4_BITS: Final = ("quantize", "nf4")
_BITS: Final = "a base is held whole or in 4 bits; write quantize: nf4, or leave this out"
_PRECISION: Final = (
    "each device computes in bf16 where it supports that, else in fp32, with fp32 adapters; "
    "leave this out"
)
_PLAIN: Final = "adapters are plain LoRA; leave this out"
_SYNC: Final = "the workers share each step by themselves; leave this out"
_TEMPLATE: Final = (
    "the model's own chat template is used, a plain one where it has none; leave this out"
)
_ANY_FLAG: Final = ((True, None), (False, None))

FOREIGN: Final[Mapping[str, Foreign]] = {
    "load_in_4bit": Foreign(means=((True, _4_BITS), (False, None)), otherwise="is true or false"),
    "load_in_8bit": Foreign(means=((False, None),), otherwise=_BITS),
    "quantization_bit": Foreign(means=((4, _4_BITS),), otherwise=_BITS),
    "adapter": Foreign(
        means=(("lora", None), ("qlora", _4_BITS)), otherwise="a LoRA adapter is what is trained"
    ),
    "finetuning_type": Foreign(
        means=(("lora", None),), otherwise="a LoRA adapter is what is trained"
    ),
    "stage": Foreign(
        means=(("sft", None),), otherwise="supervised fine-tuning (sft) is what there is"
    ),
    "do_train": Foreign(means=((True, None),), otherwise="a job file is there to train"),
    "lora_target_linear": Foreign(
        means=((True, ("lora.target", "all-linear")),),
        otherwise="name the modules as lora.target instead",
    ),
    "use_dora": Foreign(means=((False, None),), otherwise=_PLAIN),
    "use_rslora": Foreign(means=((False, None),), otherwise=_PLAIN),
    "lora_bias": Foreign(means=(("none", None),), otherwise=_PLAIN),
    "bf16": Foreign(means=((True, None), ("auto", None)), otherwise=_PRECISION),
    "fp16": Foreign(means=((False, None),), otherwise=_PRECISION),
    "tf32": Foreign(means=((False, None),), otherwise=_PRECISION),
    "optim": Foreign(
        means=tuple((name, None) for name in ("adamw_torch", "adamw_torch_fused", "adamw_hf")),
        otherwise="AdamW (adamw_torch_fused) is the optimizer; leave this out",
    ),
    "flash_attention": Foreign(
        means=_ANY_FLAG, otherwise="attention is torch's, flash where the device has it"
    ),
    "group_by_length": Foreign(
        means=_ANY_FLAG,
        otherwise="samples of like length are computed together in any case; leave this out",
    ),
    "pad_to_sequence_len": Foreign(
        means=((False, None),),
        otherwise="samples are padded no further than need be; leave this out",
    ),
    "train_on_inputs": Foreign(
        means=((False, None),),
        otherwise="the loss counts answers only; format: {text: COLUMN} learns all of a column",
    ),
    "assistant_only_loss": Foreign(
        means=((True, None),), otherwise="the loss counts answers only; leave this out"
    ),
    "completion_only_loss": Foreign(
        means=((True, None),), otherwise="the loss counts answers only; leave this out"
    ),
    "chat_template": Foreign(
        means=(("tokenizer_default", None),),
        otherwise=_TEMPLATE,
    ),
    "template": Foreign(otherwise=_TEMPLATE),
    "datasets": Foreign(otherwise="write dataset: and a file, a folder, a pattern or hub:ORG/NAME"),
    "trust_remote_code": Foreign(
        means=((False, None),), otherwise="no code from a model's repository is run"
    ),
    "max_steps": Foreign(
        means=((-1, None),), otherwise="write epochs: and how often a row is seen"
    ),
    "save_strategy": Foreign(
        means=(("steps", None),), otherwise="write save_steps: and how many, 0 for none"
    ),
    "eval_strategy": Foreign(
        means=(("steps", None),), otherwise="write eval_steps: and how many, 0 for the end only"
    ),
    "logging_steps": Foreign(
        otherwise="every step is counted and shown as it comes; leave this out"
    ),
    "deepspeed": Foreign(otherwise=_SYNC),
    "fsdp": Foreign(otherwise=_SYNC),
}


def in_our_words(key: str, value: Any) -> tuple[str, Any] | None:
    """A setting as sollol has it, or None where it asks for nothing but what is done in any case.
    Keys that nobody knows come back as they are. Raises RefusedError."""
    if foreign := FOREIGN.get(key):
        if value is None:
            return None
        for known, meaning in foreign.means:
            if type(value) is type(known) and value == known:
                return meaning
        raise RefusedError(f"{key}: {foreign.otherwise}")
    key = ALIASES.get(key, key)
    words = VALUES.get(key, {})
    return key, words.get(value, value) if isinstance(value, str) else value
