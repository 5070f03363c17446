"""Problems on which every constant of a bound is known.

Shapes: M workers, R replicas, p dimensions; x is (R, p), gradients (M, R, p), all in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Quadratic:
    """f_i(x) = ½ Σ_j h_j (x_j − a_ij)² for centres a (M, p) and curvatures h (p,); L = max h, ‖L‖₁ = Σ h."""

    centres: Tensor
    curvatures: Tensor

    @property
    def optimum(self) -> Tensor:
        return self.centres.mean(0)

    @property
    def smoothness(self) -> float:
        return float(self.curvatures.max())

    @property
    def smoothness_l1(self) -> float:
        return float(self.curvatures.sum())

    def drop(self, x: Tensor) -> float:
        """f(x) − min f for x (p,)."""
        return float((self.curvatures * (x - self.optimum).square()).sum() / 2)

    def gradient(self, x: Tensor) -> Tensor:
        """∇f at x (R, p)."""
        return self.curvatures * (x - self.optimum)

    def gradients(self, x: Tensor) -> Tensor:
        """∇f_i at x (R, p)."""
        return self.curvatures * (x - self.centres[:, None])


def quadratic(
    workers: int, p: int, spread: float, drop: float, flattest: float = 0.2, seed: int = 0
) -> tuple[Quadratic, Tensor]:
    """A quadratic with h from `flattest` to 1 and skewed (lognormal) centres, and a start from which f drops by `drop`.

    At spread 0 all workers have the same objective.
    """
    generator = torch.Generator().manual_seed(seed)
    skewed = torch.randn(workers, p, generator=generator, dtype=torch.float64).exp()
    curvatures = torch.linspace(flattest, 1, p, dtype=torch.float64) if p > 1 else torch.ones(1, dtype=torch.float64)
    problem = Quadratic(spread * skewed, curvatures)
    direction = torch.randn(p, generator=generator, dtype=torch.float64)
    return problem, problem.optimum + direction * (drop / problem.drop(problem.optimum + direction)) ** 0.5


@dataclass(frozen=True)
class Logistic:
    """f_i(x) = mean_k log(1 + exp(−y_ik⟨a_ik, x⟩)) + (ρ/2)‖x‖² for rows y·a (M, K, p)."""

    rows: Tensor
    ridge: float

    @property
    def smoothness(self) -> float:
        """λ_max(AᵀA)/(4·M·K) + ρ."""
        flat = self.rows.flatten(0, 1)
        return float(torch.linalg.matrix_norm(flat, 2) ** 2) / (4 * len(flat)) + self.ridge

    def value(self, x: Tensor) -> Tensor:
        """f at x (R, p), as (R,)."""
        losses = torch.nn.functional.softplus(-(self.rows.flatten(0, 1) @ x.T))
        return losses.mean(0) + self.ridge / 2 * x.square().sum(1)

    def gradients(self, x: Tensor) -> Tensor:
        """∇f_i at x (R, p)."""
        weight = -torch.sigmoid(-(self.rows @ x.T))
        return torch.einsum("mkr,mkp->mrp", weight, self.rows) / self.rows.shape[1] + self.ridge * x

    def drop(self, x: Tensor) -> float:
        """f(x) − min f for x (p,), by Newton's method."""
        best = x[None]
        flat = self.rows.flatten(0, 1)
        for _ in range(50):
            s = torch.sigmoid(-(flat @ best[0]))
            hessian = (flat.T * (s * (1 - s))) @ flat / len(flat) + self.ridge * torch.eye(len(x), dtype=x.dtype)
            best = best - torch.linalg.solve(hessian, self.gradients(best).mean(0)[0])
        return float(self.value(x[None]) - self.value(best))


def logistic(workers: int, p: int, seed: int = 0, samples: int = 40) -> tuple[Logistic, Tensor]:
    """Worker i sees points around a centre of its own, labelled by one noisy rule; started at 0."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    points = normal(workers, samples, p) + 1.5 * normal(workers, 1, p)
    labels = torch.where(points @ normal(p) + normal(workers, samples) > 0, 1.0, -1.0)
    return Logistic(points * labels[..., None], 0.05), torch.zeros(p, dtype=torch.float64)


_LOWER: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": torch.special.ndtri,
    "laplace": lambda tail: (2 * tail).log() / 2**0.5,
    "logistic": lambda tail: (tail / (1 - tail)).log() * (3**0.5 / torch.pi),
    "uniform": lambda tail: 3**0.5 * (2 * tail - 1),
}
"""Quantile functions at p ≤ ½."""


def draw_noise(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent noise of mean 0 and variance 1; "rare": 3 with probability 0.1, else −1/3, which is not symmetric."""
    p = torch.rand(shape, generator=generator, dtype=torch.float64).clamp(1e-15, 1 - 1e-15)
    if name == "rare":
        return torch.where(p < 0.1, 3.0, -1 / 3).double()
    tail = torch.minimum(p, 1 - p)
    lower = _LOWER[name](tail)
    return torch.where(p < 0.5, lower, -lower)
