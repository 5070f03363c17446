"""The median of noisy values, exactly: its expectation, variance, density and vote.

u_1..u_M are the workers' values of one coordinate, ξ_i independent noise of mean 0 and variance 1, b its standard
deviation in the units of u. Chen et al. 2020 bound what is computed here: E median(u + bξ) tends to the mean of u as b
grows (Theorem 4), and the vote on sign(u_i + bξ_i) to an unbiased one.

Shapes: u is (M, ...), results are (...), float64. Several thousand coordinates take seconds; sample them for more.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.theory.distributions import Distribution, distribution_named
from gradvote.theory.numbers import Numbers, as_tensor
from gradvote.theory.order_statistics import at_least, at_least_slope, count_pmf, middle_ranks
from gradvote.theory.quadrature import integrate

_TAIL = 1e-18
_HALVINGS = 40
_CHUNK = 64


def median_mean_gap(gradients: Numbers) -> Tensor:
    """median_i(g_i) − mean_i(g_i) (...) of gradients (M, ...), in their units: what a median or a vote goes wrong by.

    The median is that of `gradvote.aggregators.Median`. Its ℓ₁ norm is the last term of Chen et al.'s Theorem 1.
    """
    values = _checked(gradients)
    return _median(values) - values.mean(0)


def expected_noisy_median(u: Numbers, b: float, distribution: str = "gaussian") -> Tensor:
    """E median(u_1 + bξ_1, …, u_M + bξ_M) (...) for u (M, ...), in the units of u.

    By E X = h − ∫_l^h P(X ≤ x) dx on the interval [l, h] outside which X lies with probability below 10⁻¹⁸; for
    even M the mean of both middle values. Absolute error about 10⁻¹⁴·(b + max|u|). b = 0 gives the median of u.

    Raises:
        ValueError: b is negative or not finite, u is empty or not finite, or there is no such distribution.
    """
    values, noise = _checked(u), _noise(b, distribution)
    if b == 0:
        return _median(values)
    low, high = middle_ranks(len(values))
    lower = _each(values, lambda v: _mean(v, b, noise, low))
    return lower if low == high else (lower + _each(values, lambda v: _mean(v, b, noise, high))) / 2


def noisy_median_variance(u: Numbers, b: float, distribution: str = "gaussian") -> Tensor:
    """Var median(u_1 + bξ_1, …, u_M + bξ_M) (...) for u (M, ...) with M odd, in the units of u².

    Raises:
        ValueError: as `expected_noisy_median`, and for even M.
    """
    values, noise = _odd(u), _noise(b, distribution)
    return torch.zeros(values.shape[1:]).double() if b == 0 else _each(values, lambda v: _variance(v, b, noise))


def noisy_median_density(u: Numbers, b: float, z: Numbers, distribution: str = "gaussian") -> Tensor:
    """The density (P,) of median(u_1 + bξ_1, …, u_M + bξ_M) at the points z (P,), for u (M,) with M odd and b > 0.

    Σ_i f((z − u_i)/b)/b · P(exactly (M − 1)/2 of the others lie below z).

    Raises:
        ValueError: as `noisy_median_variance`, and for b = 0, which has no density.
    """
    values, noise = _odd(u), _noise(b, distribution)
    if b == 0 or values.dim() != 1:
        raise ValueError(
            f"A density needs noise, b > 0, and one coordinate, u (M,); got b={b}, u {tuple(values.shape)}."
        )
    t = (as_tensor(z).double() - values[:, None]) / b
    return at_least_slope(noise.cdf(t), noise.pdf(t) / b, len(values) // 2 + 1)


def noisy_vote_probability(u: Numbers, b: float, distribution: str = "gaussian") -> Tensor:
    """P(Σ sign(u_i + bξ_i) > 0) + ½·P(a tie) (...) for u (M, ...): how often the vote says +.

    No quadrature: the number of votes for + is a sum of coins of probabilities F(u_i/b). The expected vote is 2P − 1.
    With b = 0 an exact zero votes either way with probability ½, which is the library's default.

    Raises:
        ValueError: as `expected_noisy_median`.
    """
    values, noise = _checked(u), _noise(b, distribution)
    p = noise.cdf(values / b) if b else (values.sign() + 1) / 2
    pmf, M = count_pmf(p), len(values)
    won = pmf[M // 2 + 1 :].sum(0)
    return won + pmf[M // 2] / 2 if M % 2 == 0 else won


def _mean(u: Tensor, b: float, noise: Distribution, k: int) -> Tensor:
    low, high = _support(u, b, noise, k)
    return high - integrate(lambda x: _cdf(u, b, noise, k, x), low, high, _kinks(u, b, noise))


def _variance(u: Tensor, b: float, noise: Distribution) -> Tensor:
    k = middle_ranks(len(u))[0]
    centre = _mean(u, b, noise, k)
    low, high = _support(u, b, noise, k)

    def moment(x: Tensor) -> Tensor:
        return 2 * (x - centre[:, None]) * _cdf(u, b, noise, k, x)

    return (high - centre).square() - integrate(moment, low, high, _kinks(u, b, noise))


def _cdf(u: Tensor, b: float, noise: Distribution, k: int, x: Tensor) -> Tensor:
    """P(the k-th smallest of u_i + bξ_i ≤ x) for u (M, d) and x (d, P)."""
    return at_least(noise.cdf((x - u[..., None]) / b), k)


def _support(u: Tensor, b: float, noise: Distribution, k: int) -> tuple[Tensor, Tensor]:
    """Where the k-th smallest lies, but for a probability of 10⁻¹⁸ on either side; by symmetry from one search."""
    return _lowest(u, b, noise, k), -_lowest(-u, b, noise, len(u) + 1 - k)


def _lowest(u: Tensor, b: float, noise: Distribution, k: int) -> Tensor:
    low, high = u.amin(0) - noise.reach * b, u.amax(0) + noise.reach * b
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = _cdf(u, b, noise, k, middle[:, None])[:, 0] < _TAIL
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


def _kinks(u: Tensor, b: float, noise: Distribution) -> Tensor | None:
    return torch.cat([u + b * t for t in noise.kinks]).T if noise.kinks else None


def _each(u: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """`rule` on the coordinates of u (M, ...), some at a time, so that memory stays bounded."""
    flat = u.flatten(1) if u.dim() > 1 else u[:, None]
    parts = [rule(chunk) for chunk in flat.split(_CHUNK, 1)] if flat.shape[1] else [flat.new_zeros(0)]
    return torch.cat(parts).view(u.shape[1:])


def _median(values: Tensor) -> Tensor:
    valid = torch.ones(values.shape[:-1] if values.dim() > 1 else values.shape, dtype=torch.bool)
    return kernels.median(values if values.dim() > 1 else values[:, None], valid).view(values.shape[1:])


def _checked(u: Numbers) -> Tensor:
    u = as_tensor(u)
    if u.dim() == 0 or len(u) == 0 or not bool(u.isfinite().all()):
        raise ValueError(
            f"Values must be finite and have a worker axis, (M, ...) with M at least 1; got shape {tuple(u.shape)}."
        )
    return u.double()


def _odd(u: Numbers) -> Tensor:
    values = _checked(u)
    if len(values) % 2 == 0:
        raise ValueError(f"This is known for an odd number of workers only; got {len(values)}. Leave one out.")
    return values


def _noise(b: float, distribution: str) -> Distribution:
    if not 0 <= b < float("inf"):
        raise ValueError(f"The noise standard deviation b must be finite and not negative; got {b}.")
    return distribution_named(distribution)
