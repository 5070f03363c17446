"""How much noise: from the workers' gradients at one point to b, by what noise does, or by what it is to mend."""

import math

from torch import Tensor

from gradvote.errors import unknown
from gradvote.theory.distributions import DISTRIBUTIONS
from gradvote.theory.noisy_median import median_mean_gap, noisy_vote_probability
from gradvote.theory.numbers import Numbers, as_tensor

_GRID: tuple[float, ...] = (0.0, *(10 ** (-4 + 5 * k / 60) for k in range(61)))


def expected_alignment(gradients: Numbers, b: float, distribution: str = "gaussian") -> float:
    """Σ_j ḡ_j·E[vote_j] / (‖ḡ‖₂·√d) of gradients (M, d), in [−1, 1]: the cosine between the decision and the truth.

    ḡ is the mean of the gradients, E[vote_j] = 2·P(Σ_i sign(g_ij + bξ_ij) > 0) − 1. Times lr·‖ḡ‖₂·√d it is the
    first-order decrease of the mean objective in one step of noisy signSGD. Negative: the vote leads uphill.
    """
    gradients = as_tensor(gradients)
    mean = gradients.double().mean(0)
    vote = 2 * noisy_vote_probability(gradients, b, distribution) - 1
    length = float(mean.norm()) * max(1, mean.numel()) ** 0.5
    return float((mean * vote).sum()) / length if length else 0.0


def suggest_noise(gradients: Numbers, distribution: str = "gaussian", num_coordinates: int = 4096) -> float:
    """The b, in gradient units, with which noisy signSGD descends fastest from where these gradients were taken.

    It maximises `expected_alignment` over b: without noise the vote is wrong where median and mean disagree, with too
    much it is a coin toss. Searched over 61 values from 10⁻⁴ to 10 times the largest entry, and 0, which it gives where
    noise does not help, as on equal data. `gradients` is (M, d) or (M, ...), one row per worker; of more than
    `num_coordinates` coordinates every k-th is looked at. It differs from point to point: take it anew during training.

    Raises:
        ValueError: the gradients are not finite or lack a worker axis, or there is no such distribution.
    """
    if distribution not in DISTRIBUTIONS:
        raise unknown("noise distribution", distribution, DISTRIBUTIONS)
    flat = _rows(gradients)
    sample = flat[:, :: max(1, flat.shape[1] // num_coordinates)]
    largest = float(sample.abs().max()) if sample.numel() else 0.0
    best: float = max(_GRID, key=lambda factor: expected_alignment(sample, factor * largest, distribution))
    return largest * best


def noise_from_gap(gradients: Numbers, factor: float = 0.5) -> float:
    """b = factor·‖median_i(g_i) − mean_i(g_i)‖₂ / √d of gradients (M, d), in their units: noise of the gap's size.

    The root mean square of `median_mean_gap` over the coordinates: 0 on equal data, larger the more a vote goes wrong.
    One pass and no search, so it can be taken anew every few steps. The factor ½ was chosen on scikit-learn's digits;
    `gradvote reproduce noise-rule` holds it against the best fixed b on other data and models.

    Raises:
        ValueError: the gradients are not finite or lack a worker axis, or the factor is negative or not finite.
    """
    if not 0 <= factor < float("inf"):
        raise ValueError(f"The factor must be finite and not negative; got {factor}.")
    gap = median_mean_gap(_rows(gradients))
    return factor * float(gap.norm()) / math.sqrt(max(1, gap.numel()))


def _rows(gradients: Numbers) -> Tensor:
    """Gradients (M, ...) as (M, d) in float64."""
    gradients = as_tensor(gradients)
    if gradients.dim() < 2 or not bool(gradients.isfinite().all()):
        raise ValueError(f"Gradients must be finite and of shape (M, d); got shape {tuple(gradients.shape)}.")
    return gradients.flatten(1).double()
