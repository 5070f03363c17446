"""The label-skewed partition of federated learning."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradvote.fitting import Checked
from gradvote.partitions._common import as_part, check
from gradvote.shuffle import Purpose, bits, permutation

ATTEMPTS = 100


@dataclass(frozen=True)
class Dirichlet(Checked):
    """Label skew: each class is divided over the workers by shares drawn from Dirichlet(alpha).

    A small `alpha` gives each class to few workers, a large one approaches iid (Hsu, Qi and Brown 2019;
    drawn per class as by Yurochkin et al. 2019). A draw that leaves a worker empty is repeated, 100 times at
    most. The shares come from numpy's `Generator.dirichlet` over Philox: the same on every platform, up to
    the last bit of the logarithm, which the rounding to whole samples hides; numpy may change the method in a
    release.
    """

    alpha: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"The Dirichlet alpha is {self.alpha}; it must be a finite number above 0.")

    def __call__(self, labels: Tensor, num_workers: int, seed: int) -> list[Tensor]:
        """The sorted indices of each worker. Raises `ValueError` when every draw leaves a worker empty."""
        known = check(labels, num_workers)
        classes = [np.flatnonzero(known == label) for label in np.unique(known)]
        for attempt in range(ATTEMPTS):
            cuts = self._cuts(classes, num_workers, seed, attempt)
            sizes = sum(np.diff(c, prepend=0, append=len(m)) for c, m in zip(cuts, classes, strict=True))
            if np.min(sizes) > 0:
                return _deal(classes, cuts, num_workers, seed)
        raise ValueError(
            f"Dirichlet shares with alpha = {self.alpha:g} left a worker without samples in {ATTEMPTS} "
            f"draws: alpha is too small for {len(known)} samples of {len(classes)} classes over "
            f"{num_workers} workers. Use a larger alpha, fewer workers or more samples."
        )

    def _cuts(
        self, classes: list[NDArray[np.int64]], num_workers: int, seed: int, attempt: int
    ) -> list[NDArray[np.int64]]:
        """For each class, where each worker but the last ends: cumulative shares, rounded."""
        generator = np.random.Generator(bits(seed, Purpose.PROPORTIONS, attempt))
        shares = generator.dirichlet(np.full(num_workers, self.alpha), size=len(classes))
        ends = np.cumsum(shares, axis=1)[:, :-1].clip(0, 1)
        return [np.rint(e * len(m)).astype(np.int64) for e, m in zip(ends, classes, strict=True)]


def _deal(classes: list[NDArray[np.int64]], cuts: list[NDArray[np.int64]], num_workers: int, seed: int) -> list[Tensor]:
    hands: list[list[NDArray[np.int64]]] = [[] for _ in range(num_workers)]
    for number, (members, ends) in enumerate(zip(classes, cuts, strict=True)):
        shuffled = members[permutation(len(members), seed, Purpose.PARTITION, number)]
        for hand, piece in zip(hands, np.split(shuffled, ends), strict=True):
            hand.append(piece)
    return [as_part(np.concatenate(hand)) for hand in hands]


SAMPLES = (Dirichlet(0.3), Dirichlet(100.0))
