"""Simulations of a few small blocks, and what is looked at in them."""

import math

import torch

from gradvote import algorithms
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation

SHAPES = [(13, 5), (65,), (7,)]
D = sum(math.prod(shape) for shape in SHAPES)
NAMES = [*algorithms.names(), "noisy-signsgd", "noisy-dropsignsgd"]


def simulation(algorithm, num_workers=5, faults=(), seed=3):
    params = [torch.zeros(shape) for shape in SHAPES]
    return Simulation(protocol_for(params, algorithm, seed), num_workers, faults)


def gradients(step, num_workers=5):
    return torch.randn(num_workers, D, generator=torch.Generator().manual_seed(step))


def run(algorithm, num_workers=5, faults=(), steps=4, seed=3):
    sim = simulation(algorithm, num_workers, faults, seed)
    return sim, torch.stack([sim.step(gradients(step, num_workers), step, 0.1) for step in range(steps)])


def memories(sim):
    """What the workers have not sent (M, d)."""
    return torch.cat([sim.protocol.algorithm.unsent(state).flatten(1) for state in sim.workers], -1)


def mean(x):
    total = torch.zeros(D)
    for row in x:
        total = total + row
    return total / len(x)


def in_groups(sim, flat):
    return torch.cat([view.flatten() for view in sim.protocol.layout.views(flat)])


def all_finite(state):
    """NaN is allowed only as the mark of a noise scale that nobody knows yet."""
    if isinstance(state, dict):
        return all(all_finite(value) for key, value in state.items() if key not in ("own", "agreed"))
    if isinstance(state, list):
        return all(map(all_finite, state))
    return bool(state.isfinite().all())
