"""Random payloads."""

from dataclasses import dataclass

from torch import Tensor

from gradvote import kernels
from gradvote.faults._base import Fault
from gradvote.rng import Draw


@dataclass(frozen=True)
class Random(Fault):
    """Gaussian values of standard deviation `std`, or random signs, instead of what should be sent

    The random adversary of Phong and Phuong 2020.
    """

    std: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.std < float("inf"):
            raise ValueError(f"Random needs a finite standard deviation of at least 0; got {self.std}.")

    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        return (kernels.noise(draw, x.shape[-1], "gaussian") * self.std).to(x.dtype).expand(x.shape)

    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        return kernels.random_bits(draw, 64 * words.shape[-1]).expand(words.shape)


SAMPLES = (Random(), Random(0.5))
