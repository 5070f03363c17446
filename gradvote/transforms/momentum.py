"""Momenta. A block whose input holds a magnitude of 2⁶⁴ or more (`kernels.bounded`) keeps its momentum, and abstains.

One such number, finite as it is, would make the block speak of nothing else, or of nothing, for hundreds of steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Context, State, Transform


def _zeros(like: Tensor) -> State:
    return {"momentum": torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))}


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1); got {value}.")


@dataclass(frozen=True)
class Momentum(Transform):
    """Heavy-ball: m ← μm + g; gives m, or g + μm with the new m (`nesterov`)."""

    mu: float
    nesterov: bool = False

    def __post_init__(self) -> None:
        _check_fraction("The momentum μ", self.mu)

    def init(self, like: Tensor) -> State:
        return _zeros(like)

    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]:
        m, kept = kernels.moving_average(state["momentum"], self.mu, x, 1.0)
        out = x + m * self.mu if self.nesterov else m
        return out, {"momentum": kept}


@dataclass(frozen=True)
class Ema(Transform):
    """Signum's average: v ← βv + (1−β)g; gives v. Bernstein et al. 2019, Algorithm 1."""

    beta: float

    def __post_init__(self) -> None:
        _check_fraction("The average's β", self.beta)

    def init(self, like: Tensor) -> State:
        return _zeros(like)

    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]:
        v, kept = kernels.moving_average(state["momentum"], self.beta, x, 1 - self.beta)
        return v, {"momentum": kept}


@dataclass(frozen=True)
class LionMomentum(Transform):
    """Gives β₁m + (1−β₁)g; then m ← β₂m + (1−β₂)g. Chen et al. 2023; Liu et al. 2024, Algorithm 1."""

    beta1: float = 0.9
    beta2: float = 0.99

    def __post_init__(self) -> None:
        _check_fraction("Lion's β₁", self.beta1)
        _check_fraction("Lion's β₂", self.beta2)

    def init(self, like: Tensor) -> State:
        return _zeros(like)

    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]:
        out, _ = kernels.moving_average(state["momentum"], self.beta1, x, 1 - self.beta1)
        _, kept = kernels.moving_average(state["momentum"], self.beta2, x, 1 - self.beta2)
        return out, {"momentum": kept}


SAMPLES = (Momentum(0.9), Momentum(0.5, nesterov=True), Ema(0.9), LionMomentum())
