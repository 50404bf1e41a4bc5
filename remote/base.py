"""The base model as a rank loads it: precision, quantisation, no chance in it, an adapter on it.

Loads safetensors only and runs no code from a model's repository. Trains nothing.
"""

import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

from remote.run import Lora, Run

CHANCE_ENDINGS = (
    *("dropout", "pdrop", "dropout_prob", "dropout_rate", "dropout_p"),
    *("layerdrop", "layerdrop_prob", "jitter_noise"),
)
EVERY_LINEAR = "all-linear"
NAMES = re.compile(r"[\w.]+(\s*,\s*[\w.]+)*")  # of modules; anything else is a pattern to peft


class ModelError(ValueError):
    """The model cannot be loaded or adapted; the message says why and what to do."""


def load_tokenizer(name: str, *, weights: bool = True) -> Any:
    """The model's tokenizer. Who makes tokens alone has a folder without its `weights`."""
    check_folder(name, weights=weights)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no tokenizer can be loaded from {name}: {_first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {name} is not a fast one, so answers cannot be told from questions; "
            "add its tokenizer.json to the folder"
        )
    return tokenizer


def load_base(run: Run, device: torch.device) -> Any:
    """The frozen model on its device, in the type that the device computes in, or in 4 bits."""
    name, dtype = run.model, base_dtype(device)
    check_folder(name)
    four_bits = _four_bits(run, device, dtype)
    kept = {"quantization_config": four_bits, "device_map": {"": device}} if four_bits else {}
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        leave_nothing_to_chance(config)
        base = transformers.AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=dtype if four_bits else narrowest_dtype(run),
            use_safetensors=True,
            trust_remote_code=False,
            **kept,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"no model can be loaded from {name}: {_first_line(error)}") from error
    for module in base.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return base if four_bits else base.to(dtype)


def adapt(base: Any, lora: Lora, name: str) -> Any:
    """The base with a fresh adapter on it. Refuses names that no module has, over which peft passes
    as long as one fits, and an update of weights that two modules share."""
    target = EVERY_LINEAR if lora.target == "all" else lora.target  # as LLaMA-Factory calls it
    if isinstance(target, str) and target != EVERY_LINEAR and NAMES.fullmatch(target):
        target = [part.strip() for part in target.split(",")]
    if not isinstance(target, str):
        _check_names(base, "lora.target", target, name)
    _check_names(base, "lora.modules_to_save", lora.modules_to_save, name)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target,
        modules_to_save=lora.modules_to_save or None,
    )
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    shared = embeddings.weight if head is not None and head.weight is embeddings.weight else None
    try:
        adapted = get_peft_model(base, config)
    except ValueError as error:
        raise ModelError(
            f"lora.target does not fit {name}: {_first_line(error)} It may be {EVERY_LINEAR}, or "
            f"name some of {', '.join(_names_of(base, torch.nn.Linear))}"
        ) from error
    for path, module in adapted.named_modules():
        if shared is not None and isinstance(module, LoraLayer) and module.weight is shared:
            raise ModelError(
                f"lora.target names {path.rpartition('.')[2]!r}, whose weights {name} uses for its "
                "embeddings and its head alike, so its update could never be merged into them; "
                "name it in lora.modules_to_save instead"
            )
    return adapted


def _check_names(base: Any, key: str, wanted: Sequence[str], name: str) -> None:
    modules = [path for path, _ in base.named_modules()]
    for want in wanted:
        if not any(path == want or path.endswith(f".{want}") for path in modules):
            kinds = (torch.nn.Linear, torch.nn.Embedding)
            raise ModelError(
                f"{key} names {want!r}, no module of {name}; among its modules are "
                f"{', '.join(_names_of(base, *kinds))}"
            )


def _names_of(base: Any, *kinds: type) -> list[str]:
    """The last names of the modules of these kinds, each once."""
    found = (path for path, module in base.named_modules() if isinstance(module, kinds))
    return list(dict.fromkeys(path.rpartition(".")[2] for path in found))


def leave_nothing_to_chance(config: Any) -> None:
    """Sets every dropout of a model's configuration, and of those inside it, to 0: chance in the
    base would make ranks and resumes differ."""
    for key, value in vars(config).items():
        if isinstance(value, transformers.PretrainedConfig):
            leave_nothing_to_chance(value)
        elif key.endswith(CHANCE_ENDINGS) and isinstance(value, float):
            setattr(config, key, 0.0)


def check_folder(name: str, *, weights: bool = True) -> None:
    folder = Path(name)
    if not folder.is_absolute():
        return  # a name on the hub
    if not folder.is_dir():
        raise ModelError(
            f"{name} is not a folder; model needs a model's folder or its name on the hub"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name} is not a model's folder: it holds no config.json")
    if weights and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{name} holds no *.safetensors weights; other kinds can run code when loaded, so "
            "convert it first (save_pretrained writes safetensors)"
        )


def base_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def narrowest_dtype(run: Run) -> torch.dtype:
    """The narrowest type of the base weights in the job: every rank rounds to it, so that CPU and
    GPU ranks start from the same numbers."""
    with_gpu = any(rank.gpu is not None for rank in run.world)
    return torch.bfloat16 if with_gpu else torch.float32


def _four_bits(run: Run, device: torch.device, dtype: torch.dtype) -> Any:
    """How bitsandbytes is to hold the base (Dettmers et al. 2023), or None."""
    wanted = run.train.quantize
    if wanted == "none":
        return None
    if wanted != "nf4":
        raise ModelError(f"this payload knows no quantize: {wanted}; it may be none or nf4")
    if device.type != "cuda":
        raise ModelError(
            f"quantize: nf4 needs a CUDA GPU, and {run.host} trains on its CPU; leave that host "
            "out, or set quantize: none"
        )
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"quantize: nf4 needs bitsandbytes, which the environment of {run.host} lacks; put it "
            f"there ({_uv()} pip install --python {sys.executable} bitsandbytes), or set "
            "quantize: none"
        )
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _uv() -> str:
    """The uv that made this environment, which is <workdir>/envs/<lock hash>."""
    uv = Path(sys.executable).parents[3] / "bin" / "uv"
    return str(uv) if uv.is_file() else "uv"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
