"""The model being trained: base weights, LoRA adapter, and flat views of what is learnt.

Loads safetensors only and runs no code from a model's repository. Knows nothing of ranks or steps.
"""

import copy
import hashlib
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.utils import set_peft_model_state_dict
from torch.nn.functional import cross_entropy

from remote.data.tokens import Batch, render_prompt
from remote.run import Lora, Run

DROPOUT_ENDINGS = ("dropout", "pdrop", "dropout_prob", "dropout_rate")


class ModelError(ValueError):
    """The model cannot be loaded or adapted; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An adapted model on its device. `parameters` are the trained ones, in the order of `names`,
    which is the same on every rank."""

    base_name: str  # what the result calls the base
    network: Any  # peft.PeftModel
    tokenizer: Any
    device: torch.device
    names: tuple[str, ...]
    parameters: tuple[torch.nn.Parameter, ...]
    autocast: torch.dtype | None  # computes in this type where the base is narrower than fp32
    keeps_logits: bool  # forward() takes logits_to_keep

    @property
    def trained_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def numerics(self) -> str:
        """Ranks with the same text here compute bit-equal updates from equal gradients."""
        if self.device.type == "cuda":
            kind = torch.cuda.get_device_name(self.device)
        else:
            kind = torch.backends.cpu.get_cpu_capability()
        return f"{self.device.type} {kind} torch {torch.__version__}"

    def token_loss(self, batch: Batch) -> torch.Tensor:
        """The summed cross-entropy of the labelled tokens, fp32. The head computes only positions
        where some sample has a label, which saves most of its memory."""
        ids = torch.from_numpy(batch.ids).to(self.device)
        foretold = torch.from_numpy(batch.labelled[:, 1:]).to(self.device)
        positions = foretold.any(dim=0).nonzero().squeeze(1)
        kept = {"logits_to_keep": positions} if self.keeps_logits else {}
        with self.computing():
            logits = self.network(
                input_ids=ids,
                attention_mask=torch.from_numpy(batch.attention).to(self.device),
                use_cache=False,
                **kept,
            ).logits
        if not self.keeps_logits:
            logits = logits[:, positions]
        wanted = foretold[:, positions]
        return cross_entropy(
            logits[wanted].float(), ids[:, 1:][:, positions][wanted], reduction="sum"
        )

    def computing(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)

    def digest(self) -> str:
        """sha256 over the bytes of the trained weights, in name order."""
        content = hashlib.sha256()
        for name, parameter in zip(self.names, self.parameters, strict=True):
            content.update(name.encode())
            content.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def adapter(self) -> dict[str, torch.Tensor]:
        """A copy of the adapter in CPU memory, under the names that peft reads."""
        state = get_peft_model_state_dict(self.network, save_embedding_layers=False)
        return {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in state.items()
        }

    def write_config(self, folder: Path) -> None:
        """Writes adapter_config.json."""
        config = copy.deepcopy(self.network.peft_config["default"])
        config.inference_mode = True
        config.base_model_name_or_path = self.base_name  # peft writes down where it was loaded from
        config.save_pretrained(str(folder))

    def load_adapter(self, state: dict[str, torch.Tensor]) -> None:
        outcome = set_peft_model_state_dict(self.network, state)
        if outcome.unexpected_keys:
            raise ModelError(
                f"the checkpoint's adapter has {outcome.unexpected_keys[0]}, which this model "
                "lacks; model and lora settings must be those that it was saved with"
            )

    def flat_weights(self) -> torch.Tensor:
        """A copy of all trained weights as one fp32 vector in CPU memory."""
        parts = [parameter.detach().float().cpu().reshape(-1) for parameter in self.parameters]
        return torch.cat(parts)

    @torch.no_grad()
    def set_flat_weights(self, flat: torch.Tensor) -> None:
        for parameter, part in zip(self.parameters, _parts(flat, self.parameters), strict=True):
            parameter.copy_(part)

    @torch.no_grad()
    def answer(self, prompt: str, tokens: int) -> str:
        """The model's most likely answer to a prompt, greedily, as text."""
        encoded = self.tokenizer(
            render_prompt(prompt, self.tokenizer), add_special_tokens=False, return_tensors="pt"
        ).to(self.device)
        training = self.network.training
        self.network.eval()
        try:
            with self.computing():
                output = self.network.generate(
                    input_ids=encoded["input_ids"],
                    attention_mask=encoded["attention_mask"],
                    max_new_tokens=tokens,
                    do_sample=False,
                    pad_token_id=self.pad_id,
                )
        finally:
            self.network.train(training)
        said = output[0, encoded["input_ids"].shape[1] :]
        return self.tokenizer.decode(said, skip_special_tokens=True).strip()

    @property
    def pad_id(self) -> int:
        """Padding is masked out, so any token will do where a tokenizer has none."""
        return next(
            token
            for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
            if token is not None
        )


class FlatGradients:
    """All gradients as one fp32 vector, of which every parameter's `grad` is a view: backward adds
    into it, a reduction over it reaches them all, and nothing is copied."""

    def __init__(self, parameters: tuple[torch.nn.Parameter, ...]) -> None:
        size = sum(parameter.numel() for parameter in parameters)
        self.values = torch.zeros(size, dtype=torch.float32, device=parameters[0].device)
        for parameter, part in zip(parameters, _parts(self.values, parameters), strict=True):
            parameter.grad = part

    def clear(self) -> None:
        self.values.zero_()

    def are_finite(self) -> bool:
        return bool(torch.isfinite(self.values.sum(dtype=torch.float64)))

    def clip(self, max_norm: float) -> float:
        """Scales the vector down to `max_norm` where it is longer (0: never); returns its length
        before. fp64, because the order of an fp32 sum depends on a host's threads, and ranks must
        end bit-equal."""
        norm = float(torch.linalg.vector_norm(self.values, dtype=torch.float64))
        if max_norm and norm > max_norm:
            self.values.mul_(max_norm / norm)
        return norm


def _parts(
    flat: torch.Tensor, parameters: tuple[torch.nn.Parameter, ...]
) -> Iterator[torch.Tensor]:
    begin = 0
    for parameter in parameters:
        yield flat[begin : begin + parameter.numel()].view_as(parameter)
        begin += parameter.numel()


def load_tokenizer(name: str) -> Any:
    _check_folder(name)
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


def load_model(run: Run, tokenizer: Any, device: torch.device) -> Model:
    """Loads the base model, attaches the adapter and moves both to `device`. The adapter's first
    weights depend on the seed alone, so all ranks start equal."""
    base = _load_base(run.model, _base_dtype(device), _narrowest_dtype(run))
    torch.manual_seed(run.train.seed)
    network = _adapt(base, run.train.lora, run.model).to(device)
    trained = sorted((name, p) for name, p in network.named_parameters() if p.requires_grad)
    for _, parameter in trained:
        parameter.data = parameter.data.float()
    network.train()
    return Model(
        base_name=run.base_name,
        network=network,
        tokenizer=tokenizer,
        device=device,
        names=tuple(name for name, _ in trained),
        parameters=tuple(parameter for _, parameter in trained),
        autocast=None if base.dtype == torch.float32 else base.dtype,
        keeps_logits="logits_to_keep" in inspect.signature(base.forward).parameters,
    )


def _check_folder(name: str) -> None:
    folder = Path(name)
    if not folder.is_absolute():
        return  # a name on the hub
    if not folder.is_dir():
        raise ModelError(
            f"{name} is not a folder; model needs a model's folder or its name on the hub"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name} is not a model's folder: it holds no config.json")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{name} holds no *.safetensors weights; other kinds can run code when loaded, so "
            "convert it first (save_pretrained writes safetensors)"
        )


def _base_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def _narrowest_dtype(run: Run) -> torch.dtype:
    """The narrowest type of the base weights in the job: every rank rounds to it, so that CPU and
    GPU ranks start from the same numbers."""
    with_gpu = any(rank.gpu is not None for rank in run.world)
    return torch.bfloat16 if with_gpu else torch.float32


def _load_base(name: str, dtype: torch.dtype, rounded_to: torch.dtype) -> Any:
    _check_folder(name)
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        for key, value in vars(config).items():
            if key.endswith(DROPOUT_ENDINGS) and isinstance(value, float):
                setattr(config, key, 0.0)  # chance in the base would make ranks and resumes differ
        base = transformers.AutoModelForCausalLM.from_pretrained(
            name, config=config, dtype=rounded_to, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"no model can be loaded from {name}: {_first_line(error)}") from error
    return base.to(dtype)


def _adapt(base: Any, lora: Lora, name: str) -> Any:
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=name,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target,
        modules_to_save=lora.modules_to_save or None,
    )
    try:
        return get_peft_model(base, config)
    except ValueError as error:
        raise ModelError(f"lora does not fit {name}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
