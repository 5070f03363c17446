"""Non-finite values."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote.faults._base import Fault
from gradvote.rng import Draw


@dataclass(frozen=True)
class Nan(Fault):
    """NaN instead of every number

    A worker with NaN gradients abstains; a link can only spoil the floats of a payload, as a bit has no NaN.
    """

    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        return torch.full_like(x, torch.nan)

    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        return words


SAMPLES = (Nan(),)
