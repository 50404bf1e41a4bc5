"""A base model as its files describe it: its tensors, what an adapter on it trains, and what a rank
needs to hold both. Pure; knows names and shapes, never numbers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from sollol_tui.model.events import whole
from sollol_tui.model.spec import JobSpec, Lora
from sollol_tui.model.units import GIB

FP32: Final = 4
BF16: Final = 2
NF4: Final = 0.5 + 4 / 64 / 8 + 1 / 64  # 4 bits, a scale per 64, itself in 8 bits (Dettmers 2023)
_TRAINED: Final = 4 * FP32  # per trained number: itself, its gradient, both moments of AdamW
_CHECKPOINT: Final = 3 * FP32  # itself and both moments
RUNTIME_BYTES: Final = 0.6e9  # the libraries, and what the driver takes
_EVERY_LINEAR: Final = ("all-linear", "all")
_HEADS: Final = ("lm_head", "embed_out", "output")
_NAMES: Final = re.compile(r"[\w.]+(\s*,\s*[\w.]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """`matrices` maps the modules with two-dimensional weights to their shapes; `parameters` counts
    all numbers. `hidden`, `layers`, `widest` (of a layer) and `vocabulary` are config.json's."""

    parameters: int
    matrices: Mapping[str, tuple[int, int]]
    hidden: int
    layers: int
    widest: int
    vocabulary: int

    def trained(self, lora: Lora) -> int:
        """How many numbers the adapter has: r x (in + out) for each matrix that it is on (Hu et al.
        2021), and the modules that are trained whole."""
        adapted = sum(lora.r * sum(shape) for name, shape in self._linears() if _fits(name, lora))
        return adapted + sum(self._size_of(name) for name in lora.modules_to_save)

    def _linears(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for name, shape in self.matrices.items():
            last = name.rpartition(".")[2]
            if "emb" not in last and last not in ("wte", "wpe", *_HEADS):
                yield name, shape

    def _size_of(self, module: str) -> int:
        """Of all modules of that name; a head that the files lack is tied to the embeddings."""
        ending = f".{module}"
        sizes = [
            prod(shape) for name, shape in self.matrices.items() if f".{name}".endswith(ending)
        ]
        if not sizes and module in _HEADS:
            return self.hidden * self.vocabulary
        return sum(sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes of memory of one rank: `least` with one sample at once and gradient checkpointing,
    `usual` as the job asks, `kept` what is there whatever is computed; `checkpoint` on disk."""

    kept: int
    least: int
    usual: int
    checkpoint: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a plan's ranks take, before anything was measured: memory of the rank with the least
    room, which is on `host`, and the disk for the checkpoints where there is the least."""

    peak_bytes: int
    of_bytes: int
    host: str
    disk_bytes: int
    disk_free_bytes: int
    checkpoints: int
    warnings: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        several = "s" * (self.checkpoints != 1)
        return (
            f"peak ~{self.peak_bytes / GIB:.1f} of {self.of_bytes / GIB:.1f} GiB ({self.host})   "
            f"disk ~{self.disk_bytes / GIB:.1f} of {self.disk_free_bytes / GIB:.0f} GiB for "
            f"{self.checkpoints} checkpoint{several}"
        )


def need_of(weights: Weights, spec: JobSpec, *, on_gpu: bool) -> Need:
    """What a rank needs, before anything was measured.

    Kept: the base (bf16 on a GPU, fp32 on a CPU, or nf4), 16 bytes per trained number, and its
    gradient once more as it travels. Activations per token and layer: 8 hidden + 4 widest numbers,
    the count of Korthikanti et al. 2022 (section 4) for a gated MLP and attention that stores no
    matrix; with gradient checkpointing only a layer's input, and one layer whole. The head: logits
    and their gradient in fp32, of the labelled half of the tokens."""
    per_number = NF4 if spec.quantize == "nf4" else BF16 if on_gpu else FP32
    trained = weights.trained(spec.lora)
    wire = BF16 if spec.wire == "bf16" else FP32
    kept = weights.parameters * per_number + trained * (_TRAINED + wire) + RUNTIME_BYTES
    number = BF16 if on_gpu else FP32
    layer = number * (8 * weights.hidden + 4 * weights.widest)
    head = weights.vocabulary * FP32  # two of them for half of the tokens
    samples = 1 if spec.batch_size == "auto" else spec.batch_size
    plain = weights.layers * layer + head
    sparing = min(plain, number * weights.layers * weights.hidden + layer + head)
    asked = sparing if spec.gradient_checkpointing is True else plain
    return Need(
        kept=int(kept),
        least=int(kept + spec.max_length * sparing),
        usual=int(kept + samples * spec.max_length * asked),
        checkpoint=trained * _CHECKPOINT,
    )


def weights_of(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Weights | None:
    """The model that config.json and its files' tensors tell of; None when they tell too little."""
    text = config.get("text_config")
    told = text if isinstance(text, dict) else config
    hidden = _first(told, "hidden_size", "n_embd", "d_model")
    layers = _first(told, "num_hidden_layers", "n_layer", "num_layers")
    vocabulary = _first(told, "vocab_size")
    if not (hidden and layers and vocabulary and tensors):
        return None
    matrices = {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in tensors.items()
        if name.endswith(".weight") and len(shape) == 2
    }
    return Weights(
        parameters=sum(map(prod, tensors.values())),
        matrices=matrices,
        hidden=hidden,
        layers=layers,
        widest=_first(told, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden,
        vocabulary=vocabulary,
    )


def _first(config: Mapping[str, Any], *keys: str) -> int | None:
    return next((found for key in keys if (found := whole(config.get(key)))), None)


def _fits(module: str, lora: Lora) -> bool:
    """Whether the adapter is on a module, by the rules of peft's target_modules."""
    target = lora.target
    if isinstance(target, str) and target not in _EVERY_LINEAR and _NAMES.fullmatch(target):
        target = [part.strip() for part in target.split(",")]
    if isinstance(target, list):
        return any(f".{module}".endswith(f".{name}") for name in target)
    if target in _EVERY_LINEAR:
        return True
    try:
        return re.fullmatch(target, module) is not None
    except re.error:
        return False
