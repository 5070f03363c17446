"""The partition with workers of very different sizes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradvote.fitting import Checked
from gradvote.partitions._common import as_part, check, check_none_empty
from gradvote.shuffle import Purpose, permutation


@dataclass(frozen=True)
class Unequal(Checked):
    """Alike in classes but not in size: the largest share is `ratio` times the smallest.

    Sizes fall geometrically: worker i of M holds a share proportional to `ratio ** (-i / (M - 1))`, so
    worker 0 holds the most; rounding moves each size by less than one sample.
    """

    ratio: float = 10.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ratio) and self.ratio >= 1):
            raise ValueError(f"The size ratio is {self.ratio}; it must be a finite number of at least 1.")

    def __call__(self, labels: Tensor, num_workers: int, seed: int) -> list[Tensor]:
        """The sorted indices of each worker. Raises `ValueError` when the smallest share rounds to 0."""
        check(labels, num_workers)
        order = permutation(len(labels), seed, Purpose.PARTITION)
        parts = [as_part(part) for part in np.split(order, self._cuts(len(labels), num_workers))]
        check_none_empty(parts, f"Use a ratio below {self.ratio:g}, fewer workers or more samples.")
        return parts

    def _cuts(self, num_samples: int, num_workers: int) -> NDArray[np.int64]:
        """Where each worker but the last ends: the cumulative shares, rounded."""
        shares = self.ratio ** -(np.arange(num_workers) / max(1, num_workers - 1))
        ends = np.cumsum(shares) / shares.sum() * num_samples
        cuts: NDArray[np.int64] = np.rint(ends[:-1]).astype(np.int64)
        return cuts


SAMPLES = (Unequal(),)
