"""What every fault does to numbers and to packed signs."""

from abc import ABC, abstractmethod

from torch import Tensor

from gradvote.rng import Draw


class Fault(ABC):
    """A change of what is sent. `draw` is the public fault stream: runs with faults are reproducible."""

    drops = False

    @abstractmethod
    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        """Numbers (..., B, n): a gradient, or the floats of a payload."""

    @abstractmethod
    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        """Packed signs (..., B, W)."""
