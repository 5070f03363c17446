"""Seeded permutations that are the same on every platform and in every version of numpy.

numpy promises that the raw words of a bit generator never change, but not the methods that turn them into
shuffles. So a permutation here is the stable order of raw 64-bit words: Philox4x64-10 (Salmon et al. 2011),
keyed by `SeedSequence(seed, spawn_key)`, where the spawn key is the purpose followed by the position of the
draw. A tie of two words has probability below N**2 / 2**65 in all and is resolved by position, the same
everywhere.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What a draw is for: draws for different purposes are independent under one seed. Never renumber."""

    SPLIT = 0
    PARTITION = 1
    CLASSES = 2
    PROPORTIONS = 3
    BATCHES = 4
    CLIENTS = 5


def bits(seed: int, purpose: Purpose, *position: int) -> np.random.Philox:
    """The bit generator of one draw. Raises `ValueError` for a negative seed."""
    if seed < 0:
        raise ValueError(f"The seed is {seed}; it must be a whole number of at least 0.")
    return np.random.Philox(np.random.SeedSequence(seed, spawn_key=(int(purpose), *position)))


def permutation(num: int, seed: int, purpose: Purpose, *position: int) -> NDArray[np.int64]:
    """A uniformly random order of 0..num-1, a pure function of the arguments."""
    words = bits(seed, purpose, *position).random_raw(num)
    return np.argsort(words, kind="stable").astype(np.int64)
