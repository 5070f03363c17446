"""What every fault does to numbers and to packed signs."""

from abc import ABC, abstractmethod

from torch import Tensor

from gradvote.fitting import Checked
from gradvote.rng import Draw


class Fault(Checked, ABC):
    """A change of what is sent. `draw` is the public fault stream: runs with faults are reproducible."""

    drops = False
    sees_all = False

    @abstractmethod
    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        """Numbers (..., B, n): a gradient, or the floats of a payload."""

    @abstractmethod
    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        """Packed signs (..., B, W)."""


class Collusion(Fault):
    """What liars agree on who see the gradients of all workers and know who is honest.

    Only a simulation can show them these: on a real engine a worker has its own gradient and no other.
    """

    sees_all = True

    @abstractmethod
    def on_all(self, x: Tensor, honest: Tensor, draw: Draw) -> Tensor:
        """What each liar claims (M, B, n) where the workers' gradients are x (M, B, n); `honest` (M, B) bool.

        Blocks of honest workers that abstain are not `honest`; NaN where no worker is.
        """

    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        raise AssertionError("it is asked what to do with all gradients at once")

    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        raise AssertionError("it is refused on links")
