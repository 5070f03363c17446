"""Inverted signs."""

from dataclasses import dataclass

from torch import Tensor

from gradvote.faults._base import Fault
from gradvote.rng import Draw


@dataclass(frozen=True)
class Invert(Fault):
    """the negative of what should be sent

    x ← −x. On a link: Phong and Phuong 2020, Table 2; on a worker: Bernstein et al. 2019.
    """

    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        return -x

    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        return ~words


SAMPLES = (Invert(),)
