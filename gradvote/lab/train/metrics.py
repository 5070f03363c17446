"""What a run measures at an evaluated step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gradvote import kernels
from gradvote.aggregators import MajorityVote
from gradvote.core import Algorithm, State
from gradvote.engines.simulation import Simulation

CHUNK = 2000
GROWTH, OFTEN = 1.5, 0.25


@dataclass(frozen=True)
class Truth:
    """The true objective at the current parameters: the workers' mean, not their vote."""

    loss: float
    grad_norm: float
    median_mean_gap: float


def truth(losses: Tensor, gradients: Tensor, shares: Tensor) -> Truth:
    """‖Σ s_i·∇f_i‖ and ‖median_i ∇f_i − Σ s_i·∇f_i‖ for losses (M,), gradients (M, d) and shares (M,) of sum one."""
    shares = shares.to(gradients.device)
    mean = (gradients * shares[:, None]).sum(0)
    median = kernels.median(gradients, torch.ones(len(gradients), dtype=torch.bool, device=gradients.device))
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
    groups = zip(simulation.ballots, simulation.contexts(step, lr), simulation.protocol.layout.groups, strict=True)
    return sum(vote.ties(algorithm.up, b, c, g.n) for b, c, g in groups)


def memory_norm(algorithm: Algorithm, states: Sequence[State], num_workers: int) -> float | None:
    """The norm of what the workers have not sent (root of the mean of squares over workers), or None without memories.

    The states are those of all groups of blocks, each that of `num_workers` workers.
    """
    memories = [m for state in states if (m := algorithm.unsent(state)) is not None]
    if not memories:
        return None
    return float(torch.stack([m.float().square().sum() for m in memories]).sum().div(num_workers).sqrt())


def drain(simulation: Simulation, step: int, lr: float) -> float | None:
    """2·(mean |p| over the coordinates sent) / c for the last round's p = Δ + e and Δ = ±c; None without such a codec.

    Sending makes a memory smaller, ‖e‖ < ‖p‖, just where this exceeds 1: Lemma 1 of Phong and Phuong 2020.
    """
    s, magnitude, scale = simulation, 0.0, 0.0
    if not s.sent:
        return None
    rounds = zip(s.workers, s.sent, s.ballots, s.contexts(step, lr), s.protocol.layout.groups, strict=True)
    for state, sent, ballot, ctx, group in rounds:
        if "bits" in sent.planes and "scale" not in sent.planes:
            delivered = replace(sent, valid=sent.valid & ballot.valid)
            algorithm = s.protocol.algorithm
            delta, memory = algorithm.up.decode(delivered, ctx, group.n), algorithm.unsent(state)
            if memory is not None:
                magnitude += float((memory + delta)[delta != 0].abs().sum())
            scale += float(delta.abs().sum())
    return 2 * magnitude / scale if magnitude and scale else None


def misfit(records: Sequence[Mapping[str, float]]) -> str:
    """A sentence on a constant c that does not fit the gradients' scale, as the memories tell; empty where it fits.

    Of the second half of the run: too large where `drain` is often below 1 (with c far too large it stays around 1),
    too small where the memory keeps growing (without any drain it doubles).
    """
    known = [r for r in records if r.get("drain") is not None and math.isfinite(r["memory_norm"])]
    half = known[len(known) // 2 :]
    if len(half) < 4:
        return ""
    below, first, last = sum(r["drain"] < 1 for r in half) / len(half), half[0], half[-1]
    if below >= OFTEN:
        return (
            f"2·mean|p|/c was below 1 in {below:.0%} of the looks at the second half of the run, where sending adds to "
            "the error memory: c is too large for these gradients. Try a smaller one."
        )
    if last["memory_norm"] > GROWTH * first["memory_norm"]:
        return (
            f"the error memory keeps growing (‖e‖ is {first['memory_norm']:.2g} at step {first['step']:.0f} and "
            f"{last['memory_norm']:.2g} at step {last['step']:.0f}): c is too small for these gradients. Try a larger "
            "one, or keep more signs."
        )
    return ""
