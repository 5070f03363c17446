"""Capped weights: shares of one, none above the cap, in proportion below it."""

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gradvote.aggregators.weights import capped

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=8)


@given(weights=WEIGHTS, cap=st.floats(0.05, 1.0))
def test_capped(weights: list[float], cap: float) -> None:
    assume(sum(weights) > 1e-6 and cap >= 1 / len(weights))
    shares = capped(tuple(weights), cap)
    assert sum(shares) == pytest.approx(1)
    assert max(shares) <= cap * (1 + 1e-9)
    below = [(s, w) for s, w in zip(shares, weights, strict=True) if s < cap * (1 - 1e-6) and w > 1e-3]
    for s, w in below:
        assert s / w == pytest.approx(below[0][0] / below[0][1], rel=1e-6)
    ranked = sorted(zip(weights, shares, strict=True))
    assert all(b[1] >= a[1] * (1 - 1e-9) for a, b in pairwise(ranked))


def test_what_is_cut_off_goes_to_the_others() -> None:
    assert capped((8.0, 1.0, 1.0), 0.5) == pytest.approx((0.5, 0.25, 0.25))
    assert capped((1.0, 1.0), 0.5) == (0.5, 0.5)
    assert capped((1.0, 0.0), 0.5) == (0.5, 0.5)
    assert capped((6.0, 3.0, 1.0, 0.0), 0.4) == pytest.approx((0.4, 0.4, 0.2, 0.0))
