"""A rate that `gradvote.suggest_lr` gives trains, and thirty times more or less does not."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW

import gradvote
from gradvote import algorithms as a
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation


class TestTraining:
    """A net on noisy clusters: AdamW is tuned, three workers vote at the suggested rate."""

    @pytest.mark.parametrize("algorithm", [a.signum(), a.ef_signsgd()])
    def test_the_suggested_rate_trains_and_thirty_times_more_or_less_does_not(self, algorithm: Algorithm) -> None:
        net = clusters_net()
        cross_entropy(net(X[:32]), Y[:32]).backward()
        rate = gradvote.suggest_lr(AdamW(net.parameters(), lr=0.02), algorithm)
        assert isinstance(rate, float)
        good, small, large = (voted(algorithm, rate * factor) for factor in (1, 1 / 30, 30))
        assert good < 0.45
        assert small > 1.5 * good
        assert large > 1.5 * good


GENERATOR = torch.Generator().manual_seed(3)
CENTRES = torch.randn(6, 12, generator=GENERATOR)
Y = torch.randint(6, (1500,), generator=GENERATOR)
X = CENTRES[Y] + 0.8 * torch.randn(1500, 12, generator=GENERATOR)


def clusters_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 6))


def voted(algorithm: Algorithm, lr: float) -> float:
    """The held-out loss after 100 steps of plain SGD along the workers' directions."""
    net = clusters_net()
    own = list(net.parameters())
    engine = Simulation(protocol_for(own, algorithm, 0), 3)
    layout = engine.protocol.layout
    optimizer = SGD(own, lr)
    for step in range(100):
        flat = torch.stack([_gradient(net, layout.size, step, worker, engine) for worker in range(3)])
        directions = [torch.empty_like(p) for p in own]
        layout.unflatten(engine.step(flat, step, lr), directions)
        for p, direction in zip(own, directions, strict=True):
            p.grad = direction
        optimizer.step()
    with torch.no_grad():
        loss = float(cross_entropy(net(X[1000:]), Y[1000:]))
    return loss if math.isfinite(loss) else math.inf


def _gradient(net: nn.Module, size: int, step: int, worker: int, engine: Simulation) -> Tensor:
    chosen = torch.randint(1000, (8,), generator=torch.Generator().manual_seed(3 * step + worker))
    gradients = torch.autograd.grad(cross_entropy(net(X[chosen]), Y[chosen]), list(net.parameters()))
    return engine.protocol.layout.flatten(gradients, torch.empty(size))
