"""The arena, bucketing, problems and statistics."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.aggregators import Mean, Median
from gradvote.core import Context
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty, create
from gradvote.lab.experiments.arena import Descent, Exchange
from gradvote.lab.experiments.bucketing import Bucketing
from gradvote.lab.experiments.problems import draw_noise, logistic, quadratic
from gradvote.lab.experiments.statistics import mean, slope


@pytest.mark.parametrize("name", ["signsgd", "noisy-mediansgd", "dist-ef-sgdm", "dropsignsgd"])
def test_the_arena_gives_the_simulation_s_bits(name: str, generator: torch.Generator) -> None:
    lying = (Faulty(create("invert"), workers=(1,)),)
    algorithm = algorithms.create(name)
    simulation = Simulation(protocol_for([torch.zeros(7)] * 4, algorithm, 9), 3, lying)
    exchange = Exchange(algorithm, 3, 4, 7, 9, lying)
    for step in range(4):
        g = torch.randn(3, 4, 7, generator=generator)
        expected = simulation.step(g.flatten(1).clone(), step, 0.1)
        assert torch.equal(exchange.step(g, step, 0.1).flatten().float(), expected)


def test_descent_projects_after_every_step() -> None:
    descent = Descent(algorithms.create("sgd"), lambda x, _: (x - 5)[None], torch.zeros(2, 3), 0.5, project=_unit)
    assert float(list(descent.iterates(10))[-1].max()) == 1


def _unit(x: Tensor) -> Tensor:
    return x.clamp(-1, 1)


def _ctx(step: int = 0) -> Context:
    return Context(3, step, torch.zeros(1, dtype=torch.int64), torch.arange(6)[:, None])


def test_bucketing_of_one_is_the_rule_itself_and_of_all_the_mean(generator: torch.Generator) -> None:
    x, valid = torch.randn(6, 1, 9, generator=generator), torch.ones(6, 1, dtype=torch.bool)
    assert torch.equal(Bucketing(Median(), 1)(x, valid, _ctx()), Median()(x, valid, _ctx()))
    assert torch.allclose(Bucketing(Median(), 6)(x, valid, _ctx()), Mean()(x, valid, _ctx()))
    grouped = [Bucketing(Median(), 2)(x, valid, _ctx(step)) for step in (0, 0, 1)]
    assert torch.equal(grouped[0], grouped[1]) and not torch.equal(grouped[0], grouped[2])


def test_a_group_without_a_valid_worker_does_not_count() -> None:
    x, valid = torch.full((6, 1, 2), 4.0), torch.zeros(6, 1, dtype=torch.bool)
    x[1:], valid[0] = torch.nan, True
    assert Bucketing(Median(), 2)(x, valid, _ctx()).tolist() == [[4.0, 4.0]]
    assert bool(Bucketing(Median(), 2)(x, ~valid & valid, _ctx()).isnan().all())
    with pytest.raises(ValueError, match="at least one worker"):
        Bucketing(Median(), 0)


def test_a_bucketing_algorithm_is_still_a_recipe() -> None:
    algorithm = replace(algorithms.create("mediansgd"), aggregate=Bucketing(Median(), 2))
    assert "Bucketing(inner=Median(), size=2)" in repr(algorithm)


def test_quadratic_has_the_constants_it_names() -> None:
    problem, start = quadratic(5, 6, 0.3, drop=4.0)
    assert problem.drop(start) == pytest.approx(4)
    x = start.expand(2, -1)
    assert torch.allclose(problem.gradients(x).mean(0), problem.gradient(x))
    assert (problem.smoothness, problem.smoothness_l1) == (1.0, pytest.approx(3.6))
    assert quadratic(5, 6, 0.0, 4.0)[0].gradients(x).std(0).max() == 0


def test_logistic_regression_s_gradient_and_minimum() -> None:
    problem, start = logistic(3, 4)
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(5)).double().requires_grad_()
    (expected,) = torch.autograd.grad(problem.value(x).sum(), x)
    assert torch.allclose(problem.gradients(x).mean(0), expected)
    assert problem.drop(start) > 0
    hessian = torch.autograd.functional.hessian(lambda v: problem.value(v[None])[0], start)
    assert float(torch.linalg.eigvalsh(hessian).max()) <= problem.smoothness + 1e-9


@pytest.mark.parametrize("name", ["gaussian", "laplace", "logistic", "uniform", "rare"])
def test_noise_has_mean_zero_and_variance_one(name: str, generator: torch.Generator) -> None:
    x = draw_noise(name, (200_000,), generator)
    assert abs(float(x.mean())) < 0.012 and float(x.var()) == pytest.approx(1, abs=0.03)


def test_statistics() -> None:
    assert mean([1.0, 2.0, 3.0]).value == 2 and mean([1.0, 2.0, 3.0]).half == pytest.approx(2.484, abs=1e-3)
    assert math.isnan(mean([1.0]).half) and str(mean([1.0])) == "1"
    fit = slope([1, 2, 4, 8], [3, 6, 12, 24])
    assert fit.value == pytest.approx(1) and abs(fit.half) < 1e-6
