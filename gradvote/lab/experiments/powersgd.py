"""PowerSGD, for comparison: low-rank gradients with error memory, in the simulation only.

Vogels, Karimireddy, Jaggi, "PowerSGD: practical low-rank gradient compression for distributed optimization", NeurIPS
2019, Algorithms 1 (compression, Q kept from step to step) and 2 (error memory, momentum μ after the mean).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradvote.core import Payload
from gradvote.engines.gradients import trainable
from gradvote.engines.simulation import Counts
from gradvote.lab.train import Run, RunFolder
from gradvote.lab.train.setup import Setup
from gradvote.layout import Layout

FLOAT = 4


@dataclass
class PowerSGD:
    """Takes the place of a `Simulation`: `step` takes gradients (M, d) and gives the direction (d,).

    A parameter of more than one axis is a matrix (n, m), n its first axis. Δ_i = g_i + e_i; P = mean_i Δ_iQ,
    orthonormalised; Q ← mean_i Δ_iᵀP; Δ = PQᵀ; e_i ← Δ_i − Δ. Vectors are averaged as they are. The direction is
    Δ + m, m ← μm + Δ. Bytes: r(n + m) float32 for a matrix, n for a vector, up and down alike, without headers.
    """

    layout: Layout
    shapes: tuple[torch.Size, ...]
    num_workers: int
    rank: int = 1
    mu: float = 0.9
    seed: int = 0
    workers: list[dict[str, Tensor]] = field(init=False)
    factors: list[Tensor] = field(init=False)
    momentum: Tensor = field(init=False)
    counts: Counts = field(init=False)
    sent: Sequence[Payload] = field(init=False, default_factory=list)
    ballots: Sequence[Payload] = field(init=False, default_factory=list)
    decided: list[frozenset[int]] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.workers = [{"memory": torch.zeros(self.num_workers, self.layout.size)}]
        self.momentum = torch.zeros(self.layout.size)
        self.factors = [torch.randn(m, min(self.rank, n, m), generator=generator) for n, m in map(_sides, self.shapes)]
        self.counts = Counts(torch.zeros(self.num_workers, dtype=torch.int64))
        self._places = _places(self.layout, self.shapes)
        self.decided = [frozenset(range(len(self.shapes)))]

    def step(self, gradients: Tensor, step: int, lr: float) -> Tensor:
        """One round; `step` and `lr` are not needed."""
        memory = self.workers[0]["memory"]
        delta = gradients + memory
        mean = torch.zeros(self.layout.size)
        for i, (place, shape) in enumerate(zip(self._places, self.shapes, strict=True)):
            mean[place] = self._compressed(i, delta[:, place].view(-1, *_sides(shape)), len(shape) > 1).flatten()
        self.workers = [{"memory": delta - mean}]
        self.momentum = self.momentum * self.mu + mean
        self._count()
        return mean + self.momentum

    def state_dict(self) -> dict[str, Any]:
        """Memories, factors, momentum and counts."""
        c = self.counts
        own = {"workers": self.workers, "factors": list(self.factors), "momentum": self.momentum}
        return {**own, "bytes_up": c.bytes_up, "bytes_down": c.bytes_down, "steps": c.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.workers, self.factors, self.momentum = state["workers"], list(state["factors"]), state["momentum"]
        up, down, steps = state["bytes_up"], state["bytes_down"], state["steps"]
        self.counts = Counts(self.counts.abstentions, up, down, steps)

    def _compressed(self, i: int, delta: Tensor, is_matrix: bool) -> Tensor:
        """The mean (n, m) of delta (M, n, m) as the workers get it."""
        if not is_matrix:
            return delta.mean(0)
        p = torch.linalg.qr((delta @ self.factors[i]).mean(0)).Q
        self.factors[i] = (delta.mT @ p).mean(0)
        compressed: Tensor = p @ self.factors[i].T
        return compressed

    def _count(self) -> None:
        shapes = zip(self.shapes, self.factors, strict=True)
        numbers = sum(q.shape[1] * sum(_sides(s)) if len(s) > 1 else s.numel() for s, q in shapes)
        self.counts.bytes_up += FLOAT * numbers * self.num_workers
        self.counts.bytes_down += FLOAT * numbers * self.num_workers
        self.counts.steps += 1


class PowerRun(Run):
    """A run whose engine is `PowerSGD`; the algorithm that its configuration names stands for the layout only."""

    def __init__(self, setup: Setup, place: RunFolder, rank: int = 1) -> None:
        self.rank = rank
        super().__init__(setup, place, label="powersgd")

    def _engine(self) -> PowerSGD:
        shapes = tuple(p.shape for p in trainable(self.setup.model))
        return PowerSGD(self.setup.protocol.layout, shapes, self.config.workers, rank=self.rank, seed=self.config.seed)


def _sides(shape: torch.Size) -> tuple[int, int]:
    """Rows and columns of a parameter as a matrix."""
    rows = shape[0] if shape else 1
    return rows, shape.numel() // max(1, rows)


def _places(layout: Layout, shapes: tuple[torch.Size, ...]) -> list[Tensor]:
    """Where each parameter's coordinates stand in the flat vector."""
    places = [torch.zeros(shape.numel(), dtype=torch.int64) for shape in shapes]
    layout.unflatten(torch.arange(layout.size), places)
    return places
