"""The mean of ballots cut to what most workers say is usual."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote.aggregators.mean import Mean
from gradvote.aggregators.weights import check_weights
from gradvote.core import Aggregator, Context


@dataclass(frozen=True)
class BoundedMean(Aggregator):
    """Mean of clip(x_i, −S, S) with S = times · median_j max_c |x_jc|, for each block, over workers with a valid block.

    So no worker adds more than `times` what is usual, to any coordinate: no minority moves the median out of the range
    of the others. Of an even number it is the smaller middle one. Of signs with a scale it bounds the scale. What is
    cut off is lost, also to a worker's memory; a block that most leave at zero stays at zero.
    `weights` as in `Mean`, for the mean alone.
    """

    times: float = 2.0
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.times) and self.times >= 1):
            raise ValueError(f"A bound in times of the median must be finite and at least 1; got {self.times}.")
        check_weights(self.weights)

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        largest = x.abs().amax(-1) if x.shape[-1] else torch.zeros_like(valid, dtype=x.dtype)
        bound = self.bound(largest, valid)[..., None]
        return Mean(self.weights)(x.clamp(-bound, bound), valid, ctx)

    def bound(self, largest: Tensor, valid: Tensor) -> Tensor:
        """S (..., B) for the largest magnitudes (M, ..., B); zero where no block is valid."""
        ordered = largest.masked_fill(~valid, torch.inf).sort(0).values
        middle = (valid.sum(0) - 1).clamp_min(0) // 2
        return torch.where(valid.any(0), self.times * ordered.gather(0, middle[None])[0], 0.0)


def mean_of(weights: tuple[float, ...] | None, bound: float | None) -> Mean | BoundedMean:
    """The mean that algorithms offer: bounded where it was asked for."""
    return Mean(weights) if bound is None else BoundedMean(bound, weights)


SAMPLES = (BoundedMean(), BoundedMean(1.0), BoundedMean(3.0, (1.0, 2.0, 0.5, 3.0, 1.5, 0.0, 0.25)))
