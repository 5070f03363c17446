"""The papers' bounds, with the learning rate and the noise they prescribe.

T steps, d coordinates, L the smoothness of f in the 2-norm, `drop` = f(x_0) − min f (D_f in Chen et al.), f the mean of
the workers' objectives, ∇ its true gradient. Left sides are means over the steps; each docstring says of what. Units:
gradients in [g], x in [x], so f in [g·x], L in [g/x], lr of a sign method in [x], of a median method in [x/g].
"""

import math
from dataclasses import dataclass

from torch import Tensor

from gradvote.theory.numbers import Numbers, as_tensor

TURN = 2 / math.sqrt(3)
"""Above this ratio of signal to noise a sign is right often enough for a linear bound (Gauss's inequality)."""


@dataclass(frozen=True)
class Prescription:
    """What a theorem tells one to use."""

    lr: float
    noise_std: float = 0.0


def signsgd_prescription(*, steps: int, d: int, smoothness: float, drop: float) -> Prescription:
    """δ = √D_f / √(LdT), Chen et al. 2020, Theorem 1."""
    _check(steps=steps, d=d, smoothness=smoothness, drop=drop)
    return Prescription(math.sqrt(drop / (smoothness * d * steps)))


def signsgd_bound(*, steps: int, d: int, smoothness: float, drop: float, median_std: float, gap_l1: float) -> float:
    """On mean ‖∇f‖₁: (3/2)√(dLD_f)/√T + 2dσ_m + 2·mean ‖E median − ∇f‖₁; Chen et al. 2020, Theorem 1.

    `median_std` is σ_m, the largest standard deviation of a coordinate of the median; `gap_l1` the mean over the steps
    of the ℓ₁ gap between the expected median and the gradient.
    """
    _check(steps=steps, d=d, smoothness=smoothness, drop=drop)
    return 1.5 * math.sqrt(d * smoothness * drop / steps) + 2 * d * median_std + 2 * gap_l1


def mediansgd_prescription(*, steps: int, d: int, smoothness: float) -> Prescription:
    """δ = min(1/√(Td), 1/(2L)), Chen et al. 2020, Theorem 2."""
    _check(steps=steps, d=d, smoothness=smoothness)
    return Prescription(min(1 / math.sqrt(steps * d), 1 / (2 * smoothness)))


def mediansgd_bound(
    *, steps: int, d: int, smoothness: float, drop: float, median_std: float, gap_squared: float
) -> float:
    """On mean ‖∇f‖²: 2√d·D_f/√T + 2L√d·σ_m²/√T + mean ‖∇f − E median‖²; Chen et al. 2020, Theorem 2.

    Raises:
        ValueError: Td < 4L², where the first term is not the one of the prescribed rate.
    """
    _check(steps=steps, d=d, smoothness=smoothness, drop=drop)
    if steps * d < 4 * smoothness**2:
        raise ValueError(f"Theorem 2 as printed needs T·d ≥ 4L²; got T·d = {steps * d}, 4L² = {4 * smoothness**2:g}.")
    root = math.sqrt(d / steps)
    return 2 * root * drop + 2 * smoothness * root * median_std**2 + gap_squared


def noisy_signsgd_prescription(*, steps: int, d: int) -> Prescription:
    """b = (Td)^¼, δ = 1/√(Td): mean ‖∇f‖² falls as O(d^¾/T^¼); Chen et al. 2020, Theorem 5."""
    _check(steps=steps, d=d)
    return Prescription(1 / math.sqrt(steps * d), (steps * d) ** 0.25)


def noisy_mediansgd_prescription(*, steps: int, d: int) -> Prescription:
    """b = (Td)^⅙, δ = (Td)^−⅔: mean ‖∇f‖² falls as O(d^⅔/T^⅓) once δ ≤ 1/(2L); Chen et al. 2020, Theorem 6."""
    _check(steps=steps, d=d)
    return Prescription((steps * d) ** (-2 / 3), (steps * d) ** (1 / 6))


def mixed_norm(gradient: Numbers, std: float | Numbers) -> Tensor:
    """Σ over large coordinates of |∇_j|, plus Σ over the others of ∇_j²/s_j, for ∇ (..., d) and s a number or (d,).

    Large is |∇_j|/s_j > 2/√3. The left side of Chen et al.'s Theorem 5 (s = bσ, σ the standard deviation of the median
    of M noise draws) and of Bernstein et al.'s one-worker theorem (s_j = σ_j).
    """
    size, scale = as_tensor(gradient).abs(), std if isinstance(std, int | float) else as_tensor(std)
    return size.where(size > TURN * scale, size.square() / scale).sum(-1)


def one_worker_prescription(*, steps: int, smoothness_l1: float, drop: float) -> Prescription:
    """η = √((f_0 − f*)/(‖L‖₁K)), Bernstein et al. 2019, one worker and the votes of many."""
    _check(steps=steps, smoothness_l1=smoothness_l1, drop=drop)
    return Prescription(math.sqrt(drop / (smoothness_l1 * steps)))


def one_worker_bound(*, steps: int, smoothness_l1: float, drop: float) -> float:
    """On the mean of `mixed_norm(∇f, σ)`: 3√(‖L‖₁(f_0 − f*)/K); Bernstein et al. 2019, one worker, batch size 1.

    Per-coordinate noise must be unimodal and symmetric; ‖L‖₁ is the sum of the coordinates' smoothness constants.
    """
    _check(steps=steps, smoothness_l1=smoothness_l1, drop=drop)
    return 3 * math.sqrt(smoothness_l1 * drop / steps)


def adversary_bound(
    *, steps: int, workers: int, share: float, smoothness_l1: float, drop: float, noise_l1: float
) -> float:
    """On (mean ‖∇f‖₁)²: (4/√N)·(‖σ‖₁/((1 − 2α)√M) + √(‖L‖₁(f_0 − f*)))², N = K²; Bernstein et al. 2019.

    For a majority vote with a share α < ½ (`share`) of blind multiplicative adversaries and batches of K samples, K the
    number of steps, so that a coordinate's gradient has the noise σ_j/√K; `noise_l1` is ‖σ‖₁ of one sample.

    Raises:
        ValueError: α is not in [0, ½), or a number is not positive.
    """
    _check(steps=steps, workers=workers, smoothness_l1=smoothness_l1, drop=drop)
    if not 0 <= share < 0.5:
        raise ValueError(f"The share of adversaries must lie in [0, 1/2); got {share}.")
    noise = noise_l1 / ((1 - 2 * share) * math.sqrt(workers))
    return 4 / steps * (noise + math.sqrt(smoothness_l1 * drop)) ** 2


def dropsign_lr(*, c: float, mu: float, smoothness: float) -> float:
    """The largest η of DropSignSGD's Theorem 1 (Phong and Phuong 2020), c(1 − μ)²/(2L), in the paper's convention.

    Here the optimizer's rate is η/c, so (1 − μ)²/(2L); the smallest E‖∇f‖² then falls as O(1/√(MT)).
    """
    _check(c=c, smoothness=smoothness)
    if not 0 <= mu < 1:
        raise ValueError(f"The momentum μ must lie in [0, 1); got {mu}.")
    return c * (1 - mu) ** 2 / (2 * smoothness)


def _check(**positive: float) -> None:
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite; got {value}.")
