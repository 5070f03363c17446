"""What theory says about votes, medians and noise, in a form to use in one's own runs.

The gap between median and mean, the exact law of a noisy median and of a noisy vote, resting points, a choice of b, and
the papers' bounds. `stationary_point` needs the extra `theory`.
"""

from gradvote.theory.bounds import (
    Prescription,
    adversary_bound,
    dropsign_lr,
    mediansgd_bound,
    mediansgd_prescription,
    mixed_norm,
    noisy_mediansgd_prescription,
    noisy_signsgd_prescription,
    one_worker_bound,
    one_worker_prescription,
    signsgd_bound,
    signsgd_prescription,
)
from gradvote.theory.learning_rates import suggest_lr
from gradvote.theory.noisy_median import (
    expected_noisy_median,
    median_mean_gap,
    noisy_median_density,
    noisy_median_variance,
    noisy_vote_probability,
)
from gradvote.theory.suggest import expected_alignment, noise_from_gap, suggest_noise

__all__ = [
    "Prescription",
    "adversary_bound",
    "dropsign_lr",
    "expected_alignment",
    "expected_noisy_median",
    "median_mean_gap",
    "mediansgd_bound",
    "mediansgd_prescription",
    "mixed_norm",
    "noise_from_gap",
    "noisy_median_density",
    "noisy_median_variance",
    "noisy_mediansgd_prescription",
    "noisy_signsgd_prescription",
    "noisy_vote_probability",
    "one_worker_bound",
    "one_worker_prescription",
    "signsgd_bound",
    "signsgd_prescription",
    "suggest_lr",
    "suggest_noise",
]
