"""The blind multiplicative adversary."""

from dataclasses import dataclass

from torch import Tensor

from gradvote import kernels
from gradvote.faults._base import Fault
from gradvote.rng import Draw


@dataclass(frozen=True)
class Blind(Fault):
    """what should be sent times a random vector, chosen without seeing it

    x ← scale·ξ·x, ξ Gaussian per coordinate: the blind multiplicative adversary of Bernstein et al. 2019, Definition 1.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"Blind needs a positive, finite scale; got {self.scale}.")

    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        return x * (kernels.noise(draw, x.shape[-1], "gaussian") * self.scale)

    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        return words ^ kernels.random_bits(draw, 64 * words.shape[-1])


SAMPLES = (Blind(),)
