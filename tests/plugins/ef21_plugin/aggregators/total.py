"""The sum."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote.core import Aggregator, Context


@dataclass(frozen=True)
class Total(Aggregator):
    """Σ x_i over the workers whose block is valid, in their order."""

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        total = torch.zeros_like(x[0])
        for own, there in zip(x, valid, strict=True):
            total = total + own.where(there[..., None], 0.0)
        return total.where(valid.any(0)[..., None], torch.nan)


SAMPLES = (Total(),)
