"""Lost payloads."""

from dataclasses import dataclass

from torch import Tensor

from gradvote.faults._base import Fault
from gradvote.rng import Draw


@dataclass(frozen=True)
class Drop(Fault):
    """nothing arrives

    A dropped ballot does not count, and its worker keeps all of it as unsent; a dropped decision is no step for that
    worker, whose model then differs from the others'.
    """

    drops = True

    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        return x

    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        return words


SAMPLES = (Drop(),)
