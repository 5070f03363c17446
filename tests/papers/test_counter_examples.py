"""Karimireddy et al. 2019: three problems that signSGD fails and error feedback solves.

(i) min x/4 on [−1, 1], gradient 4 with probability 1/4, else −1: the optimum is −1.
(ii) f = ε|x₁+x₂| + |x₁−x₂| from (1, 0.7): every sign step leaves x₁+x₂ as it is.
(iii) f = ⟨a₁,x⟩² + ⟨a₂,x⟩², a = ±(1, −1) + ε(1, 1), one term sampled per step.
"""

import pytest
import torch
from torch import Tensor

from gradvote.algorithms import dist_ef_sgdm, ef_signsgd, signsgd
from gradvote.core import Algorithm
from tests.papers.play import Gradients, play

EPSILON = 0.5
REPLICAS = 32
FEEDBACK = [ef_signsgd("positive"), dist_ef_sgdm(0.0, "positive"), dist_ef_sgdm(zero="positive")]
IDS = ["ef_signsgd", "dist_ef_sgdm without momentum", "dist_ef_sgdm"]
VOTE = signsgd(zero="positive")
START = torch.tensor([[1.0, 0.7]], dtype=torch.float64).repeat(REPLICAS, 1)


def biased(x: Tensor, step: int) -> Tensor:
    """(i): one coordinate per replica."""
    generator = torch.Generator().manual_seed(step)
    return torch.where(torch.rand(1, REPLICAS, 1, generator=generator) < 0.25, 4.0, -1.0)


def absolute(x: Tensor, step: int) -> Tensor:
    """(ii): a subgradient."""
    total, difference = x.sum(-1, keepdim=True).sign(), (x[:, :1] - x[:, 1:]).sign()
    return (EPSILON * total * torch.ones(2) + difference * torch.tensor([1.0, -1.0]))[None]


def squares(x: Tensor, step: int) -> Tensor:
    """(iii): twice one of the two terms."""
    generator = torch.Generator().manual_seed(step)
    side = torch.where(torch.rand(REPLICAS, 1, generator=generator) < 0.5, 1.0, -1.0)
    a = side * torch.tensor([1.0, -1.0]) + EPSILON * torch.ones(2)
    return (4 * (a * x).sum(-1, keepdim=True) * a)[None]


def last_of(algorithm: Algorithm, gradients: Gradients, rate: float, steps: int) -> Tensor:
    *_, x = play(algorithm, gradients, START, lambda t: rate / (1 + 0.05 * t), steps)
    return x


def drift(algorithm: Algorithm, rate: float, steps: int) -> float:
    """Where (i) is after `steps`, on average over replicas, projected on [−1, 1]; its gradients do not depend on x."""
    x = before = torch.zeros(REPLICAS, 1)
    for after in play(algorithm, biased, x, rate, steps):
        x = (x + (after - before)).clamp(-1, 1)
        before = after
    return float(x.mean())


def test_biased_noise_misleads_the_sign() -> None:
    assert drift(VOTE, 0.01, 400) > 0.7


@pytest.mark.parametrize("algorithm", FEEDBACK, ids=IDS)
def test_biased_noise_does_not_mislead_feedback(algorithm: Algorithm) -> None:
    assert drift(algorithm, 0.002, 600) < -0.2


@pytest.mark.parametrize("gradients", [absolute, squares])
def test_signs_never_change_the_sum(gradients: Gradients) -> None:
    x = last_of(VOTE, gradients, 0.05, 300)
    torch.testing.assert_close(x.sum(-1), START.sum(-1), rtol=1e-12, atol=0.0)
    assert float((x - START).abs().max()) > 0.1


@pytest.mark.parametrize("algorithm", FEEDBACK, ids=IDS)
@pytest.mark.parametrize("gradients", [absolute, squares])
def test_feedback_finds_the_optimum(algorithm: Algorithm, gradients: Gradients) -> None:
    momentum = 0.1 if algorithm is FEEDBACK[2] else 1.0
    x = last_of(algorithm, gradients, 0.1 * momentum, 600)
    assert float(x.abs().max()) < 0.1
