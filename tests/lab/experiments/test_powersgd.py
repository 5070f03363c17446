"""PowerSGD against its paper's lines."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gradvote.algorithms import create
from gradvote.engines.protocol import protocol_for
from gradvote.lab.experiments.claim import Bench
from gradvote.lab.experiments.powersgd import PowerRun, PowerSGD
from gradvote.lab.experiments.training import train

SHAPES = (torch.Size([3, 2, 2]), torch.Size([5]), torch.Size([]), torch.Size([2, 6]))
WORKERS = 3


def engine(rank: int = 1) -> PowerSGD:
    params = [torch.zeros(shape) for shape in SHAPES]
    return PowerSGD(protocol_for(params, create("sgd"), 0).layout, SHAPES, WORKERS, rank=rank)


def gradients(power: PowerSGD, generator: torch.Generator) -> Tensor:
    return torch.randn(WORKERS, power.layout.size, generator=generator)


def test_one_matrix_line_by_line(generator: torch.Generator) -> None:
    shape = torch.Size([4, 3])
    power = PowerSGD(protocol_for([torch.zeros(shape)], create("sgd"), 0).layout, (shape,), WORKERS, mu=0.9)
    q, e, m = power.factors[0].clone(), torch.zeros(WORKERS, 4, 3), torch.zeros(4, 3)
    for step in range(3):
        g = torch.randn(WORKERS, 4, 3, generator=generator)
        delta = [g[i] + e[i] for i in range(WORKERS)]
        p = sum(d @ q for d in delta) / WORKERS
        p = p / p.norm()
        q = sum(d.T @ p for d in delta) / WORKERS
        decoded = p @ q.T
        e = torch.stack([d - decoded for d in delta])
        m = 0.9 * m + decoded
        assert torch.allclose(power.step(g.flatten(1), step, 0.1).view(4, 3), decoded + m, atol=1e-5)
    assert torch.allclose(power.workers[0]["memory"].view(WORKERS, 4, 3), e, atol=1e-5)


def test_full_rank_is_the_mean_with_momentum(generator: torch.Generator) -> None:
    power, m = engine(rank=12), torch.tensor(0.0)
    for step in range(3):
        g = gradients(power, generator)
        mean = (g + power.workers[0]["memory"]).mean(0)
        m = 0.9 * m + mean
        assert torch.allclose(power.step(g, step, 0.1), mean + m, atol=1e-5)


def test_sent_and_memory_are_the_input(generator: torch.Generator) -> None:
    power = engine()
    before, g = power.workers[0]["memory"], gradients(power, generator)
    m = power.momentum
    direction = power.step(g, 0, 0.1)
    sent = direction - power.momentum
    assert torch.allclose(power.momentum, 0.9 * m + sent, atol=1e-6)
    assert torch.allclose(power.workers[0]["memory"] + sent, g + before, atol=1e-6)


def test_bytes_are_those_of_the_factors_and_vectors(generator: torch.Generator) -> None:
    power = engine()
    power.step(gradients(power, generator), 0, 0.1)
    numbers = (3 + 4) + 5 + 1 + (2 + 6)
    assert power.counts.bytes_up == power.counts.bytes_down == 4 * numbers * WORKERS


def test_it_goes_on_from_its_state(generator: torch.Generator) -> None:
    power, other = engine(), engine()
    power.step(gradients(power, generator), 0, 0.1)
    other.load_state_dict(power.state_dict())
    g = gradients(power, generator)
    assert torch.equal(power.step(g, 1, 0.1), other.step(g, 1, 0.1))
    assert other.counts.bytes_up == power.counts.bytes_up and other.counts.steps == 2


def test_a_run_with_it_learns_and_resumes(tmp_path: Path) -> None:
    cell = {"algorithm": "sgd", "samples": 10, "workers": 5, "steps": 12, "eval_every": 6, "lr": 0.1}
    whole = train(cell, Bench(tmp_path / "whole"), run_of=PowerRun)
    assert whole["loss"][-1] < 0.9 * whole["loss"][0] and whole["bits_up"][-1] < 10
    with pytest.raises(KeyboardInterrupt):
        train(cell, Bench(tmp_path / "cut", _stop), run_of=PowerRun)
    assert train(cell, Bench(tmp_path / "cut"), run_of=PowerRun) == whole


def _stop(step: int, steps: int, note: str) -> None:
    if step == 6:
        raise KeyboardInterrupt
