"""The coordinate-wise median."""

from dataclasses import dataclass

from torch import Tensor

from gradvote import kernels
from gradvote.core import Aggregator, Context


@dataclass(frozen=True)
class Median(Aggregator):
    """median_i(x_i) per coordinate over the workers whose block is valid; the mean of the two middle values for even M.

    Yin et al. 2018; Chen et al. 2020, Algorithm 2.
    """

    def tolerates(self, num_workers: int) -> int:
        return (num_workers - 1) // 2

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        return kernels.median(x, valid)


SAMPLES = (Median(),)
