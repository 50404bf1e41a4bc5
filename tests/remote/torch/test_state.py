"""The digest of what a rank has learnt, and the gradient as it travels."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from remote.model import FlatGradients
from remote.session import Cursor
from remote.state import Learnt


def learnt(*shapes: tuple[int, ...]) -> tuple[Learnt, list[torch.nn.Parameter]]:
    torch.manual_seed(1)
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    model: Any = SimpleNamespace(parameters=tuple(parameters), numerics="cpu")
    return Learnt(model, torch.optim.AdamW(parameters), Cursor(), {}), parameters


@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (1,), (7,)])
def test_a_single_bit_changes_the_digest(shape: tuple[int, ...]) -> None:
    """Of an even count of numbers, which are summed two at once, and of an odd one."""
    state, [parameter] = learnt(shape)
    before = state.digest()
    assert state.digest() == before
    for place in range(parameter.numel()):
        bits = parameter.detach().reshape(-1).view(torch.int32)
        bits[place] ^= 1
        assert state.digest() != before
        bits[place] ^= 1
    assert state.digest() == before


def test_equal_sums_in_other_parameters_are_another_state() -> None:
    state, (one, other) = learnt((2, 2), (2, 2))
    before = state.digest()
    with torch.no_grad():
        kept = one.clone()
        one.copy_(other)
        other.copy_(kept)
    assert state.digest() != before


def test_the_rounded_gradient_is_the_newest_one() -> None:
    gradients = FlatGradients((torch.nn.Parameter(torch.zeros(3)),))
    for value in (1.0, 2.0):
        gradients.values.fill_(value)
        rounded = gradients.rounded()
        assert rounded.dtype is torch.bfloat16
        assert rounded.tolist() == [value] * 3
    rounded.fill_(9.0)  # what a sum does to it
    assert gradients.values.tolist() == [2.0] * 3
