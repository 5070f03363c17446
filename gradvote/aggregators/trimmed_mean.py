"""The coordinate-wise trimmed mean."""

from dataclasses import dataclass

from torch import Tensor

from gradvote import kernels
from gradvote.core import Aggregator, Context


@dataclass(frozen=True)
class TrimmedMean(Aggregator):
    """Mean without the `trim` smallest and largest values of each coordinate, over the workers whose block is valid.

    With too few valid workers it trims less, down to the median. Yin et al. 2018.
    """

    trim: int = 1

    def __post_init__(self) -> None:
        if self.trim < 0:
            raise ValueError(f"The number of trimmed workers must not be negative; got {self.trim}.")

    def tolerates(self, num_workers: int) -> int:
        return min(self.trim, (num_workers - 1) // 2)

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        return kernels.trimmed_mean(x, valid, self.trim)


SAMPLES = (TrimmedMean(0), TrimmedMean(1), TrimmedMean(3))
