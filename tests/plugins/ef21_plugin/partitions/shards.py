"""The partition of federated averaging."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shards:
    """Samples sorted by class, cut into shards, of which each worker is dealt a few (McMahan et al. 2017).

    ``per_worker`` shards each, dealt by the seed.
    """

    per_worker: int = 2

    def __post_init__(self) -> None:
        if self.per_worker < 1:
            raise ValueError(f"per_worker is {self.per_worker}; each worker needs at least 1 shard.")

    def __call__(self, labels: Tensor, num_workers: int, seed: int) -> list[Tensor]:
        """The sorted indices of each worker. Raises ``ValueError`` for fewer samples than shards."""
        count = num_workers * self.per_worker
        if len(labels) < count:
            raise ValueError(f"{len(labels)} samples cannot be cut into {count} shards; use fewer workers.")
        pieces = labels.argsort(stable=True).tensor_split(count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).view(num_workers, -1)
        return [torch.cat([pieces[int(i)] for i in row]).sort().values for row in order]


SAMPLES = (Shards(), Shards(1))
