"""Inner product manipulation."""

from dataclasses import dataclass

from torch import Tensor

from gradvote import kernels
from gradvote.faults import Collusion
from gradvote.rng import Draw


@dataclass(frozen=True)
class InnerProduct(Collusion):
    """the honest mean times −epsilon, against which the mean of all must not turn

    Xie, Koyejo, Gupta, "Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation", UAI 2019.
    """

    epsilon: float = 0.5

    def on_all(self, x: Tensor, honest: Tensor, draw: Draw) -> Tensor:
        return (-self.epsilon * kernels.mean(x, honest, None)).expand(x.shape)


SAMPLES = (InnerProduct(), InnerProduct(1.1))
