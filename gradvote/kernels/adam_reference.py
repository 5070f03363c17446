"""The definition of Adam's step: both averages and the update of a block in one call."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.roots import sqrt


class Betas(NamedTuple):
    """β₁ and β₂ of Adam, and ε."""

    first: float
    second: float
    eps: float


class Moments(NamedTuple):
    """Averages of gradients and of their squares (..., n), and the averages' own weights 1 − βᵗ (...,)."""

    m: Tensor
    v: Tensor
    m_weight: Tensor
    v_weight: Tensor


def adam_step(x: Tensor, old: Moments, betas: Betas) -> tuple[Tensor, Moments]:
    """The update (..., n), and the new moments: in a block (the last axis) whose update is not finite the old ones.

    m ← β₁m + (1−β₁)x, v ← β₂v + (1−β₂)x², their weights likewise of ones; the update is (m/w₁) / (√v/√w₂ + ε). x is
    `bounded`, and all of one type, float32 or float64.
    """
    new = advanced_weights(old, betas)
    x = reference.bounded(x.detach())
    m = old.m * betas.first + x * (1 - betas.first)
    v = old.v * betas.second + x * x * (1 - betas.second)
    root = sqrt(v) / sqrt(new[1])[..., None]
    update = (m / new[0][..., None]) / (root + betas.eps)
    return update, kept_where(reference.finite(update), Moments(m, v, *new), old)


def advanced_weights(old: Moments, betas: Betas) -> tuple[Tensor, Tensor]:
    """The weights of both averages after one more step."""
    pairs = ((old.m_weight, betas.first), (old.v_weight, betas.second))
    first, second = (weight * beta + (1 - beta) for weight, beta in pairs)
    return first, second


def kept_where(sent: Tensor, new: Moments, old: Moments) -> Moments:
    """The new moments of the blocks that are `sent`, the old ones of the others."""
    wide = sent[..., None]
    return Moments(
        torch.where(wide, new.m, old.m),
        torch.where(wide, new.v, old.v),
        torch.where(sent, new.m_weight, old.m_weight),
        torch.where(sent, new.v_weight, old.v_weight),
    )
