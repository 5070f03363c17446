"""Permutations are fixed for ever: these vectors may never change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradvote.shuffle import Purpose, permutation


def test_known_vectors():
    assert permutation(10, 0, Purpose.PARTITION).tolist() == [7, 8, 6, 2, 9, 3, 1, 0, 4, 5]
    assert permutation(10, 2**64 + 1, Purpose.BATCHES, 3, 7).tolist() == [8, 6, 9, 0, 4, 1, 7, 5, 3, 2]


@given(num=st.integers(0, 200), seed=st.integers(0, 2**70), position=st.lists(st.integers(0, 2**31), max_size=3))
def test_it_is_a_permutation_and_a_function(num, seed, position):
    order = permutation(num, seed, Purpose.BATCHES, *position)
    assert order.dtype == np.int64 and np.array_equal(np.sort(order), np.arange(num))
    assert np.array_equal(order, permutation(num, seed, Purpose.BATCHES, *position))


def test_every_part_of_the_key_matters():
    keys = [(0, Purpose.BATCHES, 0, 0), (1, Purpose.BATCHES, 0, 0), (0, Purpose.SPLIT, 0, 0)]
    keys += [(0, Purpose.BATCHES, 1, 0), (0, Purpose.BATCHES, 0, 1), (0, Purpose.BATCHES, 0)]
    assert len({tuple(permutation(50, *key).tolist()) for key in keys}) == len(keys)


def test_positions_are_uniform():
    """Where element 0 of five lands, over 5,000 seeds: within five standard deviations of 1,000."""
    landed = [int(np.flatnonzero(permutation(5, seed, Purpose.SPLIT) == 0)[0]) for seed in range(5000)]
    assert np.abs(np.bincount(landed, minlength=5) - 1000).max() < 5 * np.sqrt(5000 * 0.2 * 0.8)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="The seed is -1"):
        permutation(3, -1, Purpose.SPLIT)
