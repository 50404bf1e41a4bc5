"""The model being trained: losses of its tokens, its adapter, and flat views of what is learnt.

Knows nothing of ranks or steps, nor where the base came from.
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
from peft import get_peft_model_state_dict
from peft.utils import set_peft_model_state_dict

from remote.base import ModelError, adapt, load_base
from remote.batches import Packed
from remote.data.render import render_prompt
from remote.data.tokens import Batch
from remote.loss import summed_loss
from remote.run import Run


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

    def token_loss(self, batch: Batch | Packed) -> torch.Tensor:
        """The summed cross-entropy of the labelled tokens, fp32."""
        return summed_loss(*self.foretold(batch))

    def foretold(self, batch: Batch | Packed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits, the tokens that follow, and which of these are labelled. The head computes only
        positions where some line has a label, which saves most of its memory."""
        ids = torch.from_numpy(batch.ids).to(self.device)
        foretold = torch.from_numpy(batch.labelled[:, 1:]).to(self.device)
        positions = foretold.any(dim=0).nonzero().squeeze(1)
        logits = self.logits(batch, ids, positions)
        return logits, ids[:, 1:][:, positions], foretold[:, positions]

    def logits(
        self, batch: Batch | Packed, ids: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """What the model foretells at some positions of every line."""
        if isinstance(batch, Packed):  # no attention mask: only then are samples kept apart
            layout = {"position_ids": torch.from_numpy(batch.positions).to(self.device)}
        else:
            layout = {"attention_mask": torch.from_numpy(batch.attention).to(self.device)}
        kept = {"logits_to_keep": positions} if self.keeps_logits else {}
        with self.computing():
            logits = self.network(input_ids=ids, use_cache=False, **layout, **kept).logits
        return logits if self.keeps_logits else logits[:, positions]

    def checkpoint_gradients(self) -> None:
        """Keeps only the layers' inputs from now on, and computes the rest again on the way back:
        a third more work for a fraction of the memory."""
        self.network.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
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
        return {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in self._adapter().items()
        }

    def _adapter(self) -> dict[str, torch.Tensor]:
        return dict(get_peft_model_state_dict(self.network, save_embedding_layers=False))

    def write_config(self, folder: Path) -> None:
        """Writes adapter_config.json."""
        config = copy.deepcopy(self.network.peft_config["default"])
        config.inference_mode = True
        config.base_model_name_or_path = self.base_name  # peft writes down where it was loaded from
        config.save_pretrained(str(folder))

    def load_adapter(self, state: dict[str, torch.Tensor]) -> None:
        """Raises ModelError for weights that are not exactly those that this model trains."""
        own, given = (
            {name: list(tensor.shape) for name, tensor in weights.items()}
            for weights in (self._adapter(), state)
        )
        for name in sorted(own.keys() | given.keys()):
            if own.get(name) != given.get(name):
                raise ModelError(
                    f"{name} is {given.get(name, 'not')} in the saved adapter and "
                    f"{own.get(name, 'not')} in this model; model, lora.r, lora.target and "
                    "lora.modules_to_save must be those that it was saved with"
                )
        set_peft_model_state_dict(self.network, state)

    def flat_weights(self) -> torch.Tensor:
        """A copy of all trained weights as one fp32 vector in CPU memory."""
        parts = [parameter.detach().float().cpu().reshape(-1) for parameter in self.parameters]
        return torch.cat(parts)

    @torch.no_grad()
    def set_flat_weights(self, flat: torch.Tensor) -> None:
        for parameter, part in zip(self.parameters, _parts(flat, self.parameters), strict=True):
            parameter.copy_(part)

    def answer(self, prompt: str, tokens: int) -> str:
        """The model's most likely answer to a prompt, greedily, as text."""
        encoded = self.tokenizer(
            render_prompt(prompt, self.tokenizer), add_special_tokens=False, return_tensors="pt"
        )
        return self.complete(encoded["input_ids"][0], tokens)

    @torch.no_grad()
    def complete(self, ids: torch.Tensor, tokens: int) -> str:
        """What the model most likely says after these tokens, greedily, as text."""
        ids = ids[None].to(self.device)
        training = self.network.training
        self.network.eval()
        try:
            with self.computing():
                output = self.network.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=tokens,
                    do_sample=False,
                    pad_token_id=self.pad_id,
                )
        finally:
            self.network.train(training)
        said = output[0, ids.shape[1] :]
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
        self._rounded = torch.empty(0, dtype=torch.bfloat16, device=self.values.device)

    def rounded(self) -> torch.Tensor:
        """The vector in bf16, in memory that is kept: room for it made anew at each step costs
        several times the rounding."""
        return self._rounded.resize_(self.values.shape).copy_(self.values)

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


def load_model(run: Run, tokenizer: Any, device: torch.device) -> Model:
    """Loads the base model and attaches the adapter. The adapter's first weights depend on the seed
    alone, so all ranks start equal."""
    base = load_base(run, device)
    torch.manual_seed(run.train.seed)
    network = adapt(base, run.train.lora, run.base_name)
    if run.train.quantize == "none":  # a quantised base was put where it belongs when it was loaded
        network = network.to(device)
    trained = sorted((name, p) for name, p in network.named_parameters() if p.requires_grad)
    for _, parameter in trained:
        parameter.data = parameter.data.float()
    network.train()
    if run.train.torch_compile:
        network.compile(dynamic=True)  # micro-batches are of every shape
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
