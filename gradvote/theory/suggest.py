"""How much noise: from the workers' gradients at one point to b."""

from torch import Tensor

from gradvote.errors import unknown
from gradvote.theory.distributions import DISTRIBUTIONS
from gradvote.theory.noisy_median import noisy_vote_probability

_GRID = (0.0, *(10 ** (-4 + 5 * k / 60) for k in range(61)))


def expected_alignment(gradients: Tensor, b: float, distribution: str = "gaussian") -> float:
    """Σ_j ḡ_j·E[vote_j] / (‖ḡ‖₂·√d) of gradients (M, d), in [−1, 1]: the cosine between the decision and the truth.

    ḡ is the mean of the gradients, E[vote_j] = 2·P(Σ_i sign(g_ij + bξ_ij) > 0) − 1. Times lr·‖ḡ‖₂·√d it is the
    first-order decrease of the mean objective in one step of noisy signSGD. Negative: the vote leads uphill.
    """
    mean = gradients.double().mean(0)
    vote = 2 * noisy_vote_probability(gradients, b, distribution) - 1
    length = float(mean.norm()) * max(1, mean.numel()) ** 0.5
    return float((mean * vote).sum()) / length if length else 0.0


def suggest_noise(gradients: Tensor, distribution: str = "gaussian", num_coordinates: int = 4096) -> float:
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
    if gradients.dim() < 2 or not bool(gradients.isfinite().all()):
        raise ValueError(f"Gradients must be finite and of shape (M, d); got shape {tuple(gradients.shape)}.")
    flat = gradients.flatten(1).double()
    sample = flat[:, :: max(1, flat.shape[1] // num_coordinates)]
    largest = float(sample.abs().max()) if sample.numel() else 0.0
    return largest * max(_GRID, key=lambda factor: expected_alignment(sample, factor * largest, distribution))
