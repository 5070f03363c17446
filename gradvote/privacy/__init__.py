"""Differential privacy of what a worker sends: a Gaussian mechanism before the sign, and its account.

    privacy = Gaussian(noise_multiplier=1.0, max_norm=1.0, unit="client", delta=1e-5, max_epsilon=8.0)

`mechanism` bounds and hides an update, `noise` draws from the operating system's randomness, `account` says what all
releases so far have cost, `ledger` counts them in a file, `refusals` looks for noise that an account cannot have beside
it, `examples` bounds the gradient of each example alone and samples batches as the account
assumes. What comes after the noise (a sign, a vote, a memory of what was sent) is post-processing and costs nothing.
"""

from gradvote.privacy.account import Account, BudgetSpent, epsilon_of, noise_multiplier_for
from gradvote.privacy.examples import clipped_sum, poisson_sample
from gradvote.privacy.mechanism import Gaussian
from gradvote.privacy.refusals import check_noise

__all__ = [
    "Account",
    "BudgetSpent",
    "Gaussian",
    "check_noise",
    "clipped_sum",
    "epsilon_of",
    "noise_multiplier_for",
    "poisson_sample",
]
