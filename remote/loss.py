"""Cross-entropy summed over tokens, in fp32, a piece at a time. Knows neither models nor batches.

Gradients are worked out with the loss, so that the fp32 logits of a large vocabulary never exist
for a whole micro-batch at once, and no logarithms are kept for the way back.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

PIECE_BYTES = 16 << 20  # of fp32 logits


def summed_loss(logits: torch.Tensor, targets: torch.Tensor, learnt: torch.Tensor) -> torch.Tensor:
    """The sum of the losses of logits (..., vocabulary) against targets (...) where `learnt` (...)
    is true, as an fp32 scalar."""
    if logits.numel() * 4 <= PIECE_BYTES:
        return cross_entropy(logits[learnt].float(), targets[learnt], reduction="sum")
    flat = logits.reshape(-1, logits.shape[-1])
    return _PiecewiseLoss.apply(flat, targets.reshape(-1), learnt.reshape(-1))


class _PiecewiseLoss(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        context: Any, logits: torch.Tensor, targets: torch.Tensor, learnt: torch.Tensor
    ) -> torch.Tensor:
        loss = logits.new_zeros((), dtype=torch.float32)
        gradient = torch.zeros_like(logits) if logits.requires_grad else None
        places = learnt.nonzero().squeeze(1)
        for some in places.split(max(1, PIECE_BYTES // (4 * logits.shape[1]))):
            values, wanted = logits[some].float(), targets[some][:, None]  # a copy, as indexed
            total = values.logsumexp(dim=1, keepdim=True)
            loss += (total - values.gather(1, wanted)).sum()
            if gradient is not None:
                chances = values.sub_(total).exp_()
                gradient[some] = chances.scatter_add_(1, wanted, torch.full_like(total, -1.0)).to(
                    logits.dtype
                )
        context.gradient = gradient
        return loss

    @staticmethod
    @once_differentiable
    def backward(context: Any, scale: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient, context.gradient = context.gradient, None  # scaled in place: good for one use
        return gradient.mul_(scale), None, None
