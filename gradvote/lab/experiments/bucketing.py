"""Bucketing: means of small random groups of workers before a robust rule."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Aggregator, Context
from gradvote.rng import Stream, derive_key


@dataclass(frozen=True)
class Bucketing(Aggregator):
    """`inner` on the means of ⌈M/size⌉ groups of workers, drawn afresh at each step from the run's seed.

    Karimireddy, He, Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR 2022, Algorithm 1
    (without its momentum). A group counts where one of its members is valid.
    """

    inner: Aggregator
    size: int = 2

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"A group must have at least one worker; got a size of {self.size}.")

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        groups = self._order(len(x), ctx).split(self.size)
        means = torch.stack([kernels.mean(x[group], valid[group]) for group in groups])
        counted = torch.stack([valid[group].any(0) for group in groups])
        senders = torch.arange(len(groups)).view(-1, *[1] * (valid.dim() - 1))
        return self.inner(means.nan_to_num(0.0), counted, replace(ctx, sender=senders))

    def _order(self, workers: int, ctx: Context) -> Tensor:
        key = derive_key(b"bucketing:%d" % ctx.seed, Stream.SAMPLING, ctx.step, ctx.attempt)
        return torch.randperm(workers, generator=torch.Generator().manual_seed(key % 2**63))
