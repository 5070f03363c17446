"""What a run measures at an evaluated step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradvote import kernels
from gradvote.aggregators import MajorityVote
from gradvote.core import State
from gradvote.engines.simulation import Simulation

CHUNK = 2000


@dataclass(frozen=True)
class Truth:
    """The true objective at the current parameters: the workers' mean, not their vote."""

    loss: float
    grad_norm: float
    median_mean_gap: float


def truth(losses: Tensor, gradients: Tensor, shares: Tensor) -> Truth:
    """‖Σ s_i·∇f_i‖ and ‖median_i ∇f_i − Σ s_i·∇f_i‖ for losses (M,), gradients (M, d) and shares (M,) of sum one."""
    mean = (gradients * shares[:, None]).sum(0)
    median = kernels.median(gradients, torch.ones(len(gradients), dtype=torch.bool))
    return Truth(float((losses * shares).sum()), float(mean.norm()), float((median - mean).norm()))


@torch.no_grad()
def accuracy(models: Sequence[nn.Module], x: Tensor, y: Tensor) -> float:
    """The share of samples classified rightly, in evaluation mode; the mean over models where they differ."""
    right = 0
    for model in models:
        was_training = model.training
        model.eval()
        for start in range(0, len(y), CHUNK):
            stop = start + CHUNK
            right += int((model(x[start:stop]).argmax(-1) == y[start:stop]).sum())
        model.train(was_training)
    return right / (len(y) * len(models))


@torch.no_grad()
def drift(models: Sequence[nn.Module]) -> float:
    """The largest distance of a worker's parameters from worker 0's."""
    flat = [nn.utils.parameters_to_vector(m.parameters()) for m in models]
    return max(float((f - flat[0]).norm()) for f in flat)


def ties(simulation: Simulation, step: int, lr: float) -> int | None:
    """Coordinates of the last round's vote on which the workers were split evenly; None without a vote to look at."""
    algorithm = simulation.protocol.algorithm
    vote = algorithm.aggregate
    if not isinstance(vote, MajorityVote) or not simulation.ballots:
        return None
    undecided = replace(vote, tie="abstain")
    groups = zip(simulation.ballots, simulation.contexts(step, lr), simulation.protocol.layout.groups, strict=True)
    return sum(int((algorithm.up.reduce(b, undecided, c, g.n) == 0).sum()) for b, c, g in groups)


def memory_norm(states: list[State]) -> float | None:
    """The norm of the workers' error memories (root of the mean of squares over workers), or None without any."""
    memories = [m for state in states for m in _memories(state)]
    if not memories:
        return None
    workers = memories[0].shape[0]
    return float(torch.stack([m.square().sum() for m in memories]).sum().div(workers).sqrt())


def _memories(state: Any) -> list[Tensor]:
    if not isinstance(state, dict):
        return []
    own = [state["memory"]] if "memory" in state else []
    return own + [m for value in state.values() for m in _memories(value)]
