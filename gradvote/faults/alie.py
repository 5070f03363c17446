"""A little is enough."""

from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor

from gradvote import kernels
from gradvote.faults._base import Collusion
from gradvote.rng import Draw
from gradvote.staging import to_host


@dataclass(frozen=True)
class Alie(Collusion):
    """the honest mean less z standard deviations, within what honest workers differ by

    x ← μ − z·σ, μ and σ the mean and the standard deviation of the honest gradients, coordinate by coordinate ("A
    Little Is Enough", Baruch et al. 2019, Algorithm 3 and its code). Without `z`, the paper's: the largest with
    Φ(z) < (M − f − s)/(M − f), s = ⌊M/2 + 1⌋ − f being the honest workers that f liars need on their side.
    """

    z: float | None = None

    def __post_init__(self) -> None:
        if self.z is not None and not abs(self.z) < float("inf"):
            raise ValueError(f"Alie needs a finite z, or none for the paper's; got {self.z}.")

    def on_all(self, x: Tensor, honest: Tensor, draw: Draw) -> Tensor:
        mean = kernels.mean(x, honest, None)
        deviation = kernels.sqrt(kernels.mean((x - mean).square(), honest, None))
        liars = len(x) - int(to_host([honest.any(-1).sum()])[0])
        return (mean - deviation * self.reach(len(x), liars)).expand(x.shape)

    def reach(self, num_workers: int, liars: int) -> float:
        """z for so many liars of so many workers."""
        if self.z is not None:
            return self.z
        needed = num_workers // 2 + 1 - liars
        share = (num_workers - liars - needed) / max(num_workers - liars, 1)
        return NormalDist().inv_cdf(min(max(share, 1e-9), 1 - 1e-9))


SAMPLES = (Alie(), Alie(1.5))
