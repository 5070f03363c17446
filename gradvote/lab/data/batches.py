"""Which samples a worker uses in a step: randomly addressable, so that resuming needs only the step."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradvote.shuffle import Purpose, permutation


@dataclass(frozen=True, eq=False)
class Batches:
    """The sample indices of one worker, step by step: no repetition within an epoch, then shuffled afresh.

    With n indices and batch size b < n, an epoch has floor(n / b) batches of exactly b samples, cut from a
    permutation that is a pure function of (seed, sender, epoch); the n mod b samples left over sit that epoch
    out, other ones each epoch. `batch_size=None` or b >= n is the full batch: the given indices in the
    given order, at every step.

    Workers with fewer than b samples therefore have smaller batches than the others; `size` tells. Raises
    `ValueError` for an empty worker, a batch size below 1, a negative seed or sender, and (in `at`) a
    negative step.
    """

    indices: Tensor
    batch_size: int | None
    seed: int
    sender: int
    _orders: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.indices.ndim != 1 or self.indices.dtype != torch.int64:
            raise ValueError(
                f"The sample indices of worker {self.sender} must be one int64 vector, not "
                f"{self.indices.dtype} of shape {tuple(self.indices.shape)}."
            )
        if len(self.indices) == 0:
            raise ValueError(f"Worker {self.sender} has no samples; use fewer workers or another partition.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"The batch size is {self.batch_size}; it must be at least 1, or None for the full batch.")
        if self.seed < 0 or self.sender < 0:
            raise ValueError(f"Seed {self.seed} and sender {self.sender} must both be at least 0.")

    @property
    def is_full(self) -> bool:
        """Whether every step uses all of the worker's samples."""
        return self.batch_size is None or self.batch_size >= len(self.indices)

    @property
    def size(self) -> int:
        """The number of samples in every batch."""
        return len(self.indices) if self.batch_size is None else min(self.batch_size, len(self.indices))

    @property
    def per_epoch(self) -> int:
        """The number of batches in an epoch."""
        return len(self.indices) // self.size

    def at(self, step: int) -> Tensor:
        """The (size,) int64 sample indices of a step, counted from 0. A view: do not write into it."""
        if step < 0:
            raise ValueError(f"The step is {step}; steps are counted from 0.")
        if self.is_full:
            return self.indices
        epoch, batch = divmod(step, self.per_epoch)
        return self._order(epoch)[batch * self.size : (batch + 1) * self.size]

    def _order(self, epoch: int) -> Tensor:
        """The worker's samples in the order of an epoch; the latest epoch's is kept."""
        order = self._orders.get(epoch)
        if order is None:
            drawn = permutation(len(self.indices), self.seed, Purpose.BATCHES, self.sender, epoch)
            order = self.indices[torch.from_numpy(drawn).to(self.indices.device)]
            self._orders.clear()
            self._orders[epoch] = order
        return order
