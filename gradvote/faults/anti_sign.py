"""The sign of the honest mean, reversed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.faults._base import Collusion
from gradvote.rng import Draw


@dataclass(frozen=True)
class AntiSign(Collusion):
    """against the honest mean, as large as the largest honest value of the coordinate

    x ← −sign(μ)·max_i |x_i|, μ and the maximum over honest workers: the worst for a vote that still looks like an
    honest gradient's size.
    """

    def on_all(self, x: Tensor, honest: Tensor, draw: Draw) -> Tensor:
        mean = kernels.mean(x, honest, None)
        largest = x.abs().where(honest[..., None], 0.0).amax(0)
        return (-mean.sign() * largest).where(honest.any(0)[..., None], torch.nan).expand(x.shape)


SAMPLES = (AntiSign(),)
