"""The homogeneous partition."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gradvote.fitting import Checked
from gradvote.partitions._common import as_part, check
from gradvote.shuffle import Purpose, permutation


@dataclass(frozen=True)
class Iid(Checked):
    """Shuffled and dealt evenly: every worker's data look alike (sizes differ by at most one)."""

    def __call__(self, labels: Tensor, num_workers: int, seed: int) -> list[Tensor]:
        """The sorted sample indices of each worker. Raises `ValueError` for fewer samples than workers."""
        check(labels, num_workers)
        order = permutation(len(labels), seed, Purpose.PARTITION)
        return [as_part(part) for part in np.array_split(order, num_workers)]


SAMPLES = (Iid(),)
