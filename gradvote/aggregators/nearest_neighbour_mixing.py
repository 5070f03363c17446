"""Nearest-neighbour mixing before another rule."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradvote.aggregators.distances import ranks, squared_distances, tolerated
from gradvote.aggregators.krum import Krum
from gradvote.aggregators.mean import Mean
from gradvote.aggregators.median import Median
from gradvote.aggregators.trimmed_mean import TrimmedMean
from gradvote.core import Aggregator, Context


@dataclass(frozen=True)
class NearestNeighbourMixing(Aggregator):
    """`inner` of the vectors y_i = 1/(m − f) Σ_{j ∈ N_i} x_j, N_i being the m − f workers nearest to i, i among them.

    NNM of Allouah et al. 2023, Algorithm 2: on heterogeneous data it brings honest vectors nearer to their mean, which
    a median, a trimmed mean or Krum then finds. m workers sent something; of workers equally near the first ones. With
    m ≤ 2f it allows for fewer liars, down to none.

    Needs whole vectors: x (M, ..., n) has one in each row. Trusts that fewer than half lie. M² passes over the vectors.
    """

    f: int = 1
    inner: Aggregator = field(default_factory=TrimmedMean)
    separable = False

    def __post_init__(self) -> None:
        if self.f < 0:
            raise ValueError(f"NearestNeighbourMixing needs f of at least 0; got f={self.f}.")

    def tolerates(self, num_workers: int) -> int:
        return min(self.f, (num_workers - 1) // 2, self.inner.tolerates(num_workers))

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        near = ranks(squared_distances(x, valid)) < valid.sum(0) - tolerated(self.f, valid)
        mixed = torch.stack([Mean()(x, own & valid, ctx) for own in near])
        return self.inner(mixed.where(valid[..., None], 0.0), valid, ctx)


SAMPLES = (NearestNeighbourMixing(1), NearestNeighbourMixing(2, Krum(2)), NearestNeighbourMixing(1, Median()))
