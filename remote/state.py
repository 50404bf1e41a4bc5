"""What a rank has learnt, as an engine moves it between ranks: weights, both moments, the cursor.
Decides nothing."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch

from remote.engine.heal import pack, unpack
from remote.model import Model
from remote.session import Cursor

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Learnt:
    """`terms` is what must be equal on all ranks before a step can be shared."""

    def __init__(
        self,
        model: Model,
        optimizer: torch.optim.Optimizer,
        cursor: Cursor,
        terms: Mapping[str, str],
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._cursor = cursor
        self.numerics = model.numerics
        self.terms = terms

    @property
    def step(self) -> int:
        return self._cursor.step

    def digest(self) -> str:
        """Sums of the weights' bits, which neither the order of addition nor the device changes;
        sha256 of the weights themselves would take longer than some steps."""
        bits = [_bits(parameter) for parameter in self._model.parameters]
        sums = torch.stack([part.sum(dtype=torch.int64) for part in bits])
        return hashlib.sha256(sums.cpu().numpy().tobytes()).hexdigest()[:16]

    def flatten(self) -> torch.Tensor:
        cursor = self._cursor
        note = {
            "step": cursor.step,
            "samples_done": cursor.samples_done,
            "stopping": cursor.stopping,
            "history": cursor.history,
            "trend": asdict(cursor.trend),
            "moment_steps": int(self._moments[0]["step"]),
        }
        return pack([*self._model.parameters, *self._all_moments()], note)

    @torch.no_grad()
    def load(self, flat: torch.Tensor) -> None:
        numbers, note = unpack(flat)
        begin = 0
        for tensor in (*self._model.parameters, *self._all_moments()):
            tensor.copy_(numbers[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()
        for entry in self._moments:
            entry["step"].fill_(note["moment_steps"])
        cursor = self._cursor
        cursor.step, cursor.samples_done = note["step"], note["samples_done"]
        cursor.stopping = note["stopping"]
        cursor.history[:] = note["history"]
        for name, value in note["trend"].items():
            setattr(cursor.trend, name, value)

    @property
    def _moments(self) -> list[dict[str, Any]]:
        return [self._optimizer.state[parameter] for parameter in self._model.parameters]

    def _all_moments(self) -> Iterator[torch.Tensor]:
        return (entry[name] for name in _MOMENTS for entry in self._moments)


def _bits(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The bits as integers, two numbers in one where they are even: sums of 64-bit integers need no
    conversion, which takes several times as long as adding."""
    flat = parameter.detach().reshape(-1)
    return flat.view(torch.int64 if flat.numel() % 2 == 0 else torch.int32)


@torch.no_grad()
def make_moments(optimizer: torch.optim.Optimizer) -> None:
    """Gives an optimizer that has not stepped yet the moments of its first step, all zero, by a
    step of length zero; gradients must be zero."""
    if optimizer.state:
        return
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for entry in optimizer.state.values():
        entry["step"].zero_()
