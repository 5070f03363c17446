"""What is measured, against the definition."""

import math

import pytest
import torch
from torch import nn

from gradvote.algorithms import dist_ef_sgdm, dropsignsgd, ef_signsgd, noisy, sgd, signsgd
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty
from gradvote.faults.drop import Drop
from gradvote.faults.invert import Invert
from gradvote.lab.train import metrics
from gradvote.lab.train.metrics import misfit

D = 300


def simulated(algorithm, steps=3, workers=3, scale=1.0, faults=()):
    sim = Simulation(protocol_for([torch.zeros(200), torch.zeros(D - 200)], algorithm, 1), workers, faults)
    for step in range(steps):
        sim.step(scale * torch.randn(workers, D, generator=torch.Generator().manual_seed(step)), step, 0.1)
    return sim


def test_truth():
    gradients = torch.tensor([[1.0, 0.0], [2.0, 0.0], [6.0, 3.0]])
    found = metrics.truth(torch.tensor([1.0, 2.0, 3.0]), gradients, torch.tensor([0.5, 0.25, 0.25]))
    assert found.loss == 1.75
    assert found.grad_norm == pytest.approx(math.hypot(2.5, 0.75))
    assert found.median_mean_gap == pytest.approx(math.hypot(2 - 2.5, 0 - 0.75))


class Constant(nn.Module):
    def __init__(self, label, value=0.0):
        super().__init__()
        self.label, self.weight = label, nn.Parameter(torch.full((2,), value))
        self.seen = []

    def forward(self, x):
        self.seen.append((len(x), self.training))
        return torch.eye(3)[self.label].expand(len(x), 3)


def test_accuracy_is_the_mean_over_models_in_evaluation_mode():
    models = [Constant(0), Constant(1)]
    y = torch.tensor([0, 0, 0, 1] * 1000)
    assert metrics.accuracy(models, torch.zeros(4000, 5), y) == 0.5
    assert models[0].seen == [(2000, False), (2000, False)] and models[0].training


def test_drift():
    assert metrics.drift([Constant(0)]) == 0
    assert metrics.drift([Constant(0, 1.0), Constant(0, 4.0), Constant(0, 0.0)]) == pytest.approx(3 * math.sqrt(2))


def test_ties():
    sim = simulated(signsgd(), 0, workers=2)
    assert metrics.ties(sim, 0, 0.1) is None
    gradients = torch.ones(2, D)
    gradients[1, 17:50] = -1
    sim.step(gradients, 0, 0.1)
    assert metrics.ties(sim, 0, 0.1) == 33
    assert metrics.ties(simulated(sgd()), 2, 0.1) is None


def norm(sim):
    return metrics.memory_norm(sim.protocol.algorithm, sim.workers, sim.num_workers)


def test_memory_norm():
    assert norm(simulated(signsgd())) is None
    sim = simulated(ef_signsgd())
    squares = torch.cat([sim.protocol.algorithm.unsent(state).flatten(1) for state in sim.workers], -1).square().sum(1)
    assert norm(sim) == pytest.approx(float(squares.mean().sqrt()))


class TestDrain:
    """2·mean|p|/c over the kept coordinates."""

    @pytest.mark.parametrize("scale", [1e-3, 1.0])
    def test_by_hand(self, scale):
        sim = simulated(dropsignsgd(keep_up=0.4, c=6e-3), 0)
        unsent = sim.protocol.algorithm.unsent
        before = [unsent(state).clone() for state in sim.workers]
        g = scale * torch.randn(3, D, generator=torch.Generator().manual_seed(0))
        sim.step(g, 0, 0.1)
        total = count = 0.0
        for state, old, view in zip(sim.workers, before, sim.protocol.layout.views(g), strict=True):
            p = view + 0.9 * view + old
            kept = unsent(state) != p
            total, count = total + float(p[kept].abs().sum()), count + float(kept.sum())
        assert metrics.drain(sim, 0, 0.1) == pytest.approx(2 * total / count / 6e-3, rel=1e-4)

    def test_memories_shrink_just_where_it_exceeds_one(self):
        """Lemma 1, at c on either side of 2·mean|p|: ‖e‖ < ‖p‖ or ‖e‖ > ‖p‖."""
        for c, shrinks in ((1.5, True), (1.7, False)):  # 2·E|p| is 2·√(2/π) = 1.596 for p ~ N(0, 1)
            sim = simulated(dropsignsgd(keep_up=0.5, c=c, mu=0.0), 1)
            g = torch.randn(3, D, generator=torch.Generator().manual_seed(0))
            assert (metrics.drain(sim, 0, 0.1) > 1) == shrinks
            assert (norm(sim) < float(g.square().sum(1).mean().sqrt())) == shrinks

    def test_a_fault_on_the_link_is_not_the_workers(self):
        clean, inverted, dropped = (
            simulated(dropsignsgd(), 1, faults=faults)
            for faults in ((), [Faulty(Invert(), "uplink", (1,))], [Faulty(Drop(), "uplink", (1,))])
        )
        assert metrics.drain(inverted, 0, 0.1) == metrics.drain(clean, 0, 0.1)
        assert metrics.drain(dropped, 0, 0.1) == pytest.approx(metrics.drain(clean, 0, 0.1), rel=0.3)

    @pytest.mark.parametrize("algorithm", [sgd(), signsgd(), dist_ef_sgdm(), noisy(ef_signsgd())], ids=str)
    def test_only_for_signs_of_constant_scale_with_a_memory(self, algorithm):
        assert metrics.drain(simulated(algorithm), 2, 0.1) is None
        assert metrics.drain(simulated(dropsignsgd(), 0), 0, 0.1) is None


class TestMisfit:
    """The sentence a run ends with."""

    def after(self, steps, scale, **options):
        """The records of a run with gradients of standard deviation `scale` around a mean of the same size."""
        sim = Simulation(protocol_for([torch.zeros(D)], dropsignsgd(**options), 1), 3)
        records = []
        for step in range(steps):
            noise = torch.randn(3, D, generator=torch.Generator().manual_seed(step))
            sim.step(scale * (1 + noise), step, 0.1)
            if step % (steps // 20) == 0:
                drain = metrics.drain(sim, step, 0.1)
                records.append({"step": float(step), "memory_norm": norm(sim), "drain": drain})
        return records

    def test_too_small_a_c(self):
        text = misfit(self.after(100, scale=0.01))
        assert text.startswith("the error memory keeps growing (‖e‖ is ") and "c is too small" in text

    def test_too_large_a_c(self):
        assert "c is too large for these gradients" in misfit(self.after(100, scale=1e-6, c=0.1, keep_up=1.0))

    def test_a_c_that_fits(self):
        assert misfit(self.after(200, scale=1e-4)) == ""

    def test_silence(self):
        assert misfit([]) == "" == misfit([{"step": 1.0, "loss": 2.0}] * 100)
        assert misfit(self.after(100, scale=0.01)[:5]) == ""
