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
_OPTIMIZER: Final = ("adamw_torch", "adamw_torch_fused", "adamw_hf")
_HELD_OUT: Final = "held-out rows are computed together as those of a step are; leave this out"
_READERS: Final = (
    "rows are read and tokenised once, on as many cores as the job may use; leave this out"
)
_LABEL: Final = "is no setting of the training; leave this out"
_OUTPUT: Final = "each job has a new output_dir, and what is there is kept; leave this out"
_OFF: Final = ((False, None),)

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
    **dict.fromkeys(
        ("optim", "optimizer"),
        Foreign(
            means=tuple((name, None) for name in _OPTIMIZER),
            otherwise="AdamW (adamw_torch_fused) is the optimizer; leave this out",
        ),
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
    "evals_per_epoch": Foreign(
        means=((0, None),), otherwise="write eval_steps: and how many, 0 for the end only"
    ),
    "saves_per_epoch": Foreign(otherwise="write save_steps: and how many, 0 for none"),
    "save_only_model": Foreign(
        means=_OFF, otherwise="checkpoints hold all that a resume needs; leave this out"
    ),
    "load_best_model_at_end": Foreign(
        means=_OFF,
        otherwise="the last step is the result; sollol evaluate JOB --checkpoint N compares others",
    ),
    "early_stopping_patience": Foreign(
        otherwise="a job ends when its rows are learnt, or diverges (loss_watchdog); leave this out"
    ),
    "loss_watchdog_threshold": Foreign(
        otherwise="write loss_watchdog: and how many times its best loss is too much"
    ),
    "loss_watchdog_patience": Foreign(otherwise="write loss_watchdog_steps: and how many"),
    "resume_from_checkpoint": Foreign(
        means=_OFF, otherwise="sollol train --resume JOB begins at a checkpoint"
    ),
    "max_samples": Foreign(otherwise="all rows are learnt; give a file that has fewer"),
    "dataset_text_field": Foreign(
        means=(("text", None),), otherwise="write format: {text: COLUMN}"
    ),
    "neftune_noise_alpha": Foreign(otherwise="no noise is added to embeddings; leave this out"),
    "special_tokens": Foreign(
        otherwise="the tokenizer is used as it is; add tokens to the model's folder beforehand"
    ),
    "push_to_hub": Foreign(
        means=_OFF, otherwise="the result stays on this machine; leave this out"
    ),
    **dict.fromkeys(
        ("per_device_eval_batch_size", "eval_batch_size"), Foreign(otherwise=_HELD_OUT)
    ),
    **dict.fromkeys(
        ("eval_packing", "eval_sample_packing"), Foreign(means=_ANY_FLAG, otherwise=_HELD_OUT)
    ),
    **dict.fromkeys(
        (
            *("dataloader_num_workers", "preprocessing_num_workers", "dataset_num_proc"),
            *("dataset_prepared_path", "overwrite_cache"),
        ),
        Foreign(otherwise=_READERS),
    ),
    **dict.fromkeys(
        ("overwrite_output_dir", "lora_model_dir"), Foreign(means=_OFF, otherwise=_OUTPUT)
    ),
    **dict.fromkeys(
        (
            *("plot_loss", "ddp_timeout", "logging_dir", "run_name", "strict", "model_type"),
            *("tokenizer_type", "wandb_project", "wandb_entity", "hub_model_id"),
        ),
        Foreign(means=_OFF, otherwise=_LABEL),
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
