"""A worker's own gradient is bounded before the vote: over all its parameters, the same bits in every engine."""

import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Algorithm, Codec, Context
from gradvote.layout import Layout
from gradvote.staging import CPU, to_device, to_host

SLAB = 1 << 20
"""Coordinates that are squared at a time."""
TINY = 1e-6
"""Keeps the factor finite, as in torch.nn.utils.clip_grad_norm_."""


def check_max_norm(max_norm: float | None, algorithm: Algorithm) -> None:
    """Warn where a bound does nothing.

    Raises:
        TypeError, ValueError: it is no positive number.
    """
    if max_norm is None:
        return
    if isinstance(max_norm, bool) or not isinstance(max_norm, int | float):
        raise TypeError(f"max_norm is the bound of a gradient's norm, a number, or None; got {max_norm!r}.")
    if not 0 < max_norm < math.inf:
        raise ValueError(f"max_norm must be positive and finite, or None for no clipping; got {max_norm}.")
    if not minds_length(algorithm.up):
        warnings.warn(
            f"max_norm={max_norm} does nothing here: the sign of a gradient does not change when the whole of it is "
            "made shorter. It matters to algorithms with a momentum, a memory, noise or a mean.",
            stacklevel=3,
        )


def squares(layout: Layout, flat: Tensor) -> Tensor:
    """The sum of squares of each block of flat (..., d), as (..., B) float64 in the order of the layout's groups.

    A block with a value that is not finite abstains, and counts as zero; so does one whose squares overflow.
    """
    sums = [_row_sums(x) for x in layout.views(flat.detach())]
    return torch.cat(sums, -1) if sums else flat.new_zeros(*flat.shape[:-1], 0, dtype=torch.float64)


def factor(sums: Iterable[Tensor], max_norm: float) -> float:
    """min(1, max_norm / ‖g‖₂) for the `squares` (B_k,) of one worker's gradient, in whatever parts it comes."""
    norm = math.sqrt(math.fsum(value for own in to_host([*sums]) for value in own.tolist()))
    return min(1.0, max_norm / (norm + TINY))


def shortened(flat: Tensor, by: float) -> Tensor:
    """flat (..., d) times a factor, rounded to the type of flat before."""
    return flat * torch.full((), by, dtype=flat.dtype, device=flat.device)


def clipped(layout: Layout, flat: Tensor, max_norm: float | None) -> Tensor:
    """Gradients flat (..., d), those of each worker with a norm of at most `max_norm`; the same tensor if all had."""
    if max_norm is None:
        return flat
    sums = squares(layout, flat)
    (rows,) = to_host([sums.reshape(-1, sums.shape[-1])])
    factors = torch.tensor([factor([row], max_norm) for row in rows], dtype=flat.dtype, device=CPU)
    if bool((factors == 1).all()):
        return flat
    return flat * to_device(factors.reshape(sums.shape[:-1]), flat.device)[..., None]


def minds_length(up: Codec) -> bool:
    """Whether a bound matters to a worker half: it remembers something, or says more of a gradient than its signs."""
    x = torch.linspace(-1.0, 2.0, 64, device=CPU, dtype=torch.float32)[None]
    state, ctx = up.init(x), Context(0, 0, torch.zeros(1, dtype=torch.int64, device=CPU), 0)
    if state:
        return True
    whole, half = (up.encode(x * size, state, ctx)[0] for size in (1.0, 0.5))
    return any(not torch.equal(plane, half[name]) for name, plane in whole.planes.items())


def _row_sums(x: Tensor) -> Tensor:
    """Sums of squares (..., B) of blocks x (..., B, n), some of them at a time."""
    step = max(1, SLAB // max(1, x.shape[-1]))
    parts = [kernels.tree_sum(part.square()) for part in x.split(step, -2)]
    sums = torch.cat(parts, -1).double() if parts else x.new_zeros(x.shape[:-1], dtype=torch.float64)
    return sums.where(sums.isfinite(), 0.0)
