"""The noise distributions as formulas: symmetric about 0, unimodal, of variance 1, in float64.

They are what `gradvote.kernels.quantiles` draws from; `tests/theory` holds the two against each other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote.errors import unknown

_SQRT_2 = math.sqrt(2)
_SQRT_3 = math.sqrt(3)
_PACE = math.pi / _SQRT_3


@dataclass(frozen=True)
class Distribution:
    """P(ξ ≤ x) and its density, for x of any shape.

    `reach` is where the tail falls below 10⁻¹⁸; between neighbouring `kinks` both functions are smooth.
    """

    name: str
    cdf: Callable[[Tensor], Tensor]
    pdf: Callable[[Tensor], Tensor]
    reach: float
    kinks: tuple[float, ...] = ()


def _gaussian_pdf(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)


def _laplace_cdf(x: Tensor) -> Tensor:
    tail = torch.exp(-_SQRT_2 * x.abs()) / 2
    return torch.where(x < 0, tail, 1 - tail)


def _laplace_pdf(x: Tensor) -> Tensor:
    return torch.exp(-_SQRT_2 * x.abs()) / _SQRT_2


def _logistic_pdf(x: Tensor) -> Tensor:
    return _PACE * torch.sigmoid(_PACE * x) * torch.sigmoid(-_PACE * x)


def _uniform_pdf(x: Tensor) -> Tensor:
    return (x.abs() <= _SQRT_3).to(x.dtype) / (2 * _SQRT_3)


DISTRIBUTIONS: dict[str, Distribution] = {
    d.name: d
    for d in (
        Distribution("gaussian", torch.special.ndtr, _gaussian_pdf, 9.0),
        Distribution("laplace", _laplace_cdf, _laplace_pdf, 30.0, (0.0,)),
        Distribution("logistic", lambda x: torch.sigmoid(_PACE * x), _logistic_pdf, 23.0),
        Distribution(
            "uniform", lambda x: (x / (2 * _SQRT_3) + 0.5).clamp(0, 1), _uniform_pdf, _SQRT_3, (-_SQRT_3, _SQRT_3)
        ),
    )
}


def distribution_named(name: str) -> Distribution:
    """The distribution of a name: gaussian, laplace, logistic or uniform.

    Raises:
        ValueError: there is no such distribution.
    """
    if name not in DISTRIBUTIONS:
        raise unknown("noise distribution", name, DISTRIBUTIONS)
    return DISTRIBUTIONS[name]
