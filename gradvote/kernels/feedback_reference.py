"""The definition of the fused memory step: momentum, error memory and signs of a block in one call."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.rng import Draw


class Inertia(NamedTuple):
    """A momentum before the memory: m ← μm + x; gives m, or x + μm (`nesterov`)."""

    momentum: Tensor
    mu: float
    nesterov: bool


class Feedback(NamedTuple):
    """Words (..., W), flags (...,) and scales (...,) of what is sent; the new memory and momentum (..., n)."""

    bits: Tensor
    valid: Tensor
    scale: Tensor
    memory: Tensor
    momentum: Tensor | None


def feedback_step(
    x: Tensor,
    memory: Tensor,
    ratio: Tensor,
    inertia: Inertia | None,
    keep: Tensor | None,
    zeros: Draw | bool,
    scale: Tensor | None,
) -> Feedback:
    """p = momentum(x) + ratio·e; bits of sign(p); e ← p − s·sign(p), where only coordinates in `keep` are sent.

    x and e are (..., n), ratio (...,), keep (..., W). The scale s (...,) is `scale`, or the mean of |p| over the
    coordinates sent (None). What enters the momentum, and what enters the memory, is `reference.bounded`. A block whose
    p or s is not finite is not valid and keeps its memory; one whose new momentum is not finite keeps its momentum.
    What was given stays as it is.
    """
    p, momentum = reference.bounded(x), None
    if inertia is not None:
        m = inertia.momentum * inertia.mu + p
        p = reference.bounded(p + m * inertia.mu if inertia.nesterov else m)
        momentum = reference.finite_or(m, inertia.momentum)
    p = p + memory * ratio[..., None]
    bits, valid = reference.checked_pack_signs(p, zeros)
    if scale is None:
        scale = reference.mean_abs(p, keep).float()
        valid = valid & scale.isfinite()
    sent = reference.unpack_signs(bits, x.shape[-1], scale)
    if keep is not None:
        sent = torch.where(reference.unpack_bits(keep, x.shape[-1]), sent, 0.0)
    return Feedback(bits, valid, scale, torch.where(valid[..., None], p - sent, memory), momentum)
