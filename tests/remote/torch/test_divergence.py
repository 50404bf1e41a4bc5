"""The distilled loss: nothing where student and teacher agree, and the right gradient elsewhere."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from remote.distill import divergence
from remote.distill.divergence import Signal, mixed_loss
from remote.distill.shards import scores_of

VOCABULARY, TOKENS, TOP_K = 512, 200, 32


def logits_of(seed: int, vocabulary: int = VOCABULARY) -> torch.Tensor:
    """Peaked as a trained model's are: a few likely tokens and a long tail."""
    source = torch.Generator().manual_seed(seed)
    likely = 4 * torch.randn(TOKENS, vocabulary, generator=source)
    return likely + torch.linspace(6, -6, vocabulary)[torch.randperm(vocabulary, generator=source)]


def signal_of(logits: torch.Tensor, temperature: float = 1.0, top_k: int = TOP_K) -> Signal:
    """What a scorer keeps of these logits, after the rounding that its file does."""
    chances = log_softmax(logits.double() / temperature, dim=1)
    top, ids = chances.topk(top_k, dim=1)
    rest = chances.scatter(1, ids, -torch.inf).logsumexp(dim=1, keepdim=True)
    kept = scores_of(ids.numpy().astype(np.uint16), top.numpy(), rest.numpy())
    log_chances, log_rest = kept.chances()
    return Signal(
        ids=ids, log_chances=torch.from_numpy(log_chances), log_rest=torch.from_numpy(log_rest)
    )


def distilled(
    student: torch.Tensor, signal: Signal, alpha: float, temperature: float
) -> tuple[divergence.Mixed, torch.Tensor]:
    student = student.clone().requires_grad_()
    targets = torch.arange(TOKENS) % VOCABULARY
    learnt = torch.ones(TOKENS, dtype=torch.bool)
    mixed = mixed_loss(student, targets, learnt, signal, alpha=alpha, temperature=temperature)
    mixed.loss.backward()
    assert student.grad is not None
    return mixed, student.grad


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_student_that_is_its_teacher_has_no_divergence_but_rounding(temperature: float) -> None:
    logits = logits_of(1)
    mixed, gradient = distilled(logits, signal_of(logits, temperature), 0.0, temperature)
    assert abs(mixed.divergence.item()) / TOKENS < 1e-6
    _, elsewhere = distilled(logits_of(2), signal_of(logits, temperature), 0.0, temperature)
    assert gradient.norm() < 1e-3 * elsewhere.norm()


@pytest.mark.parametrize(("temperature", "least"), [(1.0, 0.99), (2.0, 0.98)])
def test_the_bucket_points_where_the_whole_distribution_does(
    temperature: float, least: float
) -> None:
    """A higher temperature moves more of what is said into the bucket."""
    teacher, student = logits_of(1), logits_of(2).requires_grad_()
    whole = kl_div(
        log_softmax(student / temperature, dim=1),
        log_softmax(teacher / temperature, dim=1),
        log_target=True,
        reduction="sum",
    )
    (exact,) = torch.autograd.grad(temperature**2 * whole, student)
    _, gradient = distilled(student.detach(), signal_of(teacher, temperature), 0.0, temperature)
    cosine = torch.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0)
    assert cosine >= least


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradient_is_that_of_the_formula(
    alpha: float, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divergence, "PIECE_BYTES", 7 * 4 * VOCABULARY)  # pieces of seven tokens
    student, signal = logits_of(2), signal_of(logits_of(1), temperature)
    mixed, gradient = distilled(student, signal, alpha, temperature)

    exact = student.double().requires_grad_()
    own = log_softmax(exact / temperature, dim=1)
    rest = own.scatter(1, signal.ids, -torch.inf).logsumexp(dim=1, keepdim=True)
    pairs = [(signal.log_chances, own.gather(1, signal.ids)), (signal.log_rest, rest)]
    kl = sum((told.exp() * (told - said)).sum() for told, said in pairs)
    targets = torch.arange(TOKENS) % VOCABULARY
    ce = cross_entropy(exact, targets, reduction="sum")
    loss = alpha * ce + (1 - alpha) * temperature**2 * kl
    loss.backward()
    torch.testing.assert_close(mixed.loss.double(), loss.detach(), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(mixed.divergence.double(), kl.detach(), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(gradient.double(), exact.grad, rtol=1e-4, atol=1e-5)


def test_only_what_is_learnt_has_a_gradient() -> None:
    student = logits_of(2).view(2, TOKENS // 2, VOCABULARY).requires_grad_()
    learnt = torch.arange(TOKENS).view(2, -1) % 3 == 0
    whole = signal_of(logits_of(1))
    places = learnt.flatten().nonzero().squeeze(1)
    told = Signal(
        ids=whole.ids[places],
        log_chances=whole.log_chances[places],
        log_rest=whole.log_rest[places],
    )
    targets = torch.zeros(2, TOKENS // 2, dtype=torch.long)
    mixed_loss(student, targets, learnt, told, alpha=0.5, temperature=1.0).loss.backward()
    assert student.grad is not None
    assert student.grad[~learnt].abs().max() == 0
    assert student.grad[learnt].abs().sum(dim=1).min() > 0


def test_a_teacher_that_is_sure_leaves_a_finite_gradient() -> None:
    sure = torch.full((TOKENS, VOCABULARY), -200.0)
    sure[:, 5] = 200.0
    mixed, gradient = distilled(sure.roll(1, dims=1), signal_of(sure), 0.5, 1.0)
    assert torch.isfinite(mixed.loss)
    assert torch.isfinite(gradient).all()
    mixed, _ = distilled(sure, signal_of(sure), 0.0, 1.0)
    assert abs(mixed.divergence.item()) < 1e-4
