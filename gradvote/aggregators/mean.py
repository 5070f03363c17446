"""The mean."""

from dataclasses import dataclass

from torch import Tensor

from gradvote import kernels
from gradvote.aggregators.weights import check_weights, weights_of
from gradvote.core import Aggregator, Context


@dataclass(frozen=True)
class Mean(Aggregator):
    """Σ w_i·x_i / Σ w_i over the workers whose block is valid; a coordinate that was not sent counts as zero.

    `weights` (one per worker, by sample count for instance) default to 1. Summed in order of the workers.
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_weights(self.weights)

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        return kernels.mean(x, valid, weights_of(self.weights, ctx))


SAMPLES = (Mean(), Mean((1.0, 2.0, 0.5, 3.0, 1.5, 0.0, 0.25)))
