"""Krum: the vector that is nearest to the others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote.aggregators.distances import squared_distances, tolerated
from gradvote.core import Aggregator, Context


@dataclass(frozen=True)
class Krum(Aggregator):
    """The vector x_k of the worker with the least sum of squared distances to its nearest neighbours.

    k = argmin_i Σ_{j ∈ N_i} ‖x_i − x_j‖², N_i being the m − f − `fewer` workers nearest to i, i itself among them, of
    the m that sent something; of several such workers the first. Blanchard et al. 2017 leave out one more than
    Allouah et al. 2023, whose rule is the default: theirs is `fewer=1`. With m ≤ 2f it allows for fewer liars, down
    to none.

    Needs whole vectors: x (M, ..., n) has one in each row. Trusts that fewer than half lie; moves by one worker's
    vector, so on heterogeneous data by one worker's data.
    """

    f: int = 1
    fewer: int = 0
    separable = False

    def __post_init__(self) -> None:
        if self.f < 0 or self.fewer not in (0, 1):
            raise ValueError(f"Krum needs f of at least 0 and fewer of 0 or 1; got f={self.f}, fewer={self.fewer}.")

    def tolerates(self, num_workers: int) -> int:
        return min(self.f, max(num_workers - 1 - self.fewer, 0) // 2)  # liars who agree have no more than f neighbours

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        scores = self.scores(squared_distances(x, valid), valid)
        chosen = scores.argsort(dim=0, stable=True)[:1]
        best = x.gather(0, chosen[..., None].expand(1, *x.shape[1:]))[0]
        return best.where(valid.any(0)[..., None], torch.nan)

    def scores(self, distances: Tensor, valid: Tensor) -> Tensor:
        """The sums (M, ...) for squared distances (M, M, ...); infinite for workers that sent nothing."""
        neighbours = (valid.sum(0) - tolerated(self.f, valid) - self.fewer).clamp_min(1)
        sums = torch.zeros_like(distances[:, 0])
        for place, row in enumerate(distances.sort(1).values.unbind(1)):
            sums += row.where(place < neighbours, 0.0)
        return sums.clamp_max(torch.finfo(sums.dtype).max).where(valid, torch.inf)


SAMPLES = (Krum(0), Krum(1), Krum(2, fewer=1))
