"""How far a student's chances are from its teacher's, mixed with cross-entropy: value and gradient.
Knows neither models nor files.

A teacher tells the chances of its likeliest tokens and of all others together (a bucket). The
Kullback-Leibler divergence between what both say of these k + 1 cases is 0 exactly where they agree
(Hinton, Vinyals and Dean 2015 for temperature and T^2). As in remote.loss, gradients are worked out
with the loss, a piece at a time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from remote.loss import PIECE_BYTES

LEAST_CHANCE = 1e-30  # of the bucket where rounding leaves it nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What a teacher says of some tokens, at the temperature it was asked at."""

    ids: torch.Tensor  # int64 (tokens, k): its likeliest tokens
    log_chances: torch.Tensor  # fp32 (tokens, k)
    log_rest: torch.Tensor  # fp32 (tokens, 1): of all other tokens together

    def __getitem__(self, some: slice) -> "Signal":
        return Signal(
            ids=self.ids[some], log_chances=self.log_chances[some], log_rest=self.log_rest[some]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Sums over tokens: `loss` is alpha CE + (1 - alpha) T^2 KL, with its gradient."""

    loss: torch.Tensor
    cross_entropy: torch.Tensor
    divergence: torch.Tensor  # KL at the temperature, without T^2


def mixed_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    learnt: torch.Tensor,
    signal: Signal,
    *,
    alpha: float,
    temperature: float,
) -> Mixed:
    """Of logits (..., vocabulary) where `learnt` (...) is true, whose tokens `signal` tells of in
    the same order."""
    flat = logits.reshape(-1, logits.shape[-1])
    learnt, targets = learnt.reshape(-1), targets.reshape(-1)
    loss, cross_entropy, divergence = _MixedLoss.apply(
        flat, targets, learnt, signal, alpha, temperature
    )
    return Mixed(loss=loss, cross_entropy=cross_entropy, divergence=divergence)


class _MixedLoss(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        context: Any,
        logits: torch.Tensor,
        targets: torch.Tensor,
        learnt: torch.Tensor,
        signal: Signal,
        alpha: float,
        temperature: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        cross_entropy = logits.new_zeros((), dtype=torch.float32)
        divergence = torch.zeros_like(cross_entropy)
        gradient = torch.zeros_like(logits)
        places = learnt.nonzero().squeeze(1)
        size = max(1, PIECE_BYTES // (4 * logits.shape[1]))
        for begin in range(0, len(places), size):
            some, told = places[begin : begin + size], signal[begin : begin + size]
            values, wanted = logits[some].float(), targets[some][:, None]
            total = values.logsumexp(dim=1, keepdim=True)
            cross_entropy += (total - values.gather(1, wanted)).sum()
            if temperature == 1:
                softened = values.sub_(total)
                own_top = softened.gather(1, told.ids)
                chances = softened.exp_()
                soft = chances.clone()
            else:
                softened = values / temperature
                softened -= softened.logsumexp(dim=1, keepdim=True)
                own_top = softened.gather(1, told.ids)
                chances, soft = values.sub_(total).exp_(), softened.exp_()
            divergence += _divergence(soft, own_top, told)
            chances.scatter_add_(1, wanted, torch.full_like(total, -1.0))
            # T^2 of the loss, and 1/T because the softened logits are logits/T.
            part = chances.mul_(alpha).add_(soft, alpha=(1 - alpha) * temperature)
            gradient[some] = part.to(logits.dtype)
        context.gradient = gradient
        context.mark_non_differentiable(cross_entropy, divergence)
        loss = alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence
        return loss, cross_entropy, divergence

    @staticmethod
    @once_differentiable
    def backward(context: Any, scale: torch.Tensor, *_: torch.Tensor) -> tuple[Any, ...]:
        gradient, context.gradient = context.gradient, None  # scaled in place: good for one use
        return gradient.mul_(scale), None, None, None, None, None


def _divergence(chances: torch.Tensor, log_top: torch.Tensor, told: Signal) -> torch.Tensor:
    """The summed divergence of a student with these chances, of which `log_top` are the logarithms
    of those that the teacher tells one by one. Puts its gradient by the softened logits where the
    chances were."""
    taught, taught_rest = told.log_chances.exp(), told.log_rest.exp()
    # The bucket's chance is added up from the others', because 1 minus the told ones would be
    # rounding where these are nearly all.
    chances.scatter_(1, told.ids, 0.0)
    rest = chances.sum(dim=1, keepdim=True).clamp_min_(LEAST_CHANCE)
    summed = (taught * (told.log_chances - log_top)).sum()
    summed += (taught_rest * (told.log_rest - rest.log())).sum()
    chances.mul_(1 - taught_rest / rest)
    chances.scatter_(1, told.ids, log_top.exp() - taught)
    return summed
