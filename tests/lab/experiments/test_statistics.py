"""Comparisons that intervals decide, what they could have seen, and exponents of replicas."""

import math

import pytest
import torch

from gradvote.lab.experiments.statistics import Estimate, above, below, exact, mean, needed, seen, slope, slopes


@pytest.mark.parametrize(
    ("low", "high", "is_above", "is_below"),
    [
        (0.1, 0.3, True, False),
        (-0.3, -0.1, False, True),
        (-0.1, 0.3, None, None),
        (-0.3, 0.0, False, None),
        (0.0, 0.3, None, False),
        (0.0, 0.0, False, False),
        (math.nan, math.nan, None, None),
    ],
)
def test_only_a_whole_interval_decides(low: float, high: float, is_above: bool | None, is_below: bool | None) -> None:
    estimate = Estimate((low + high) / 2, (high - low) / 2, 5)
    assert above("x", estimate, 0.0).holds is is_above
    assert below("x", estimate, 0.0).holds is is_below


def test_what_is_exact_needs_no_interval() -> None:
    assert above("x", exact(1.0), 0.5).holds is True and str(above("x", exact(1.0), 0.5)) == "x 1 > 0.5"
    assert below("x", mean([1.0]), 5.0).holds is None


def test_the_power_said_is_the_power_there_is() -> None:
    """As many runs as are said to decide a distance decide it in about four of five trials."""
    noise = torch.randn(2000, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first = mean([-1.2, -0.5, 0.1, 0.4, 1.2])
    spread = first.half / 2.776 * 5**0.5
    trials = [above("x", mean((spread * own + seen(first)).tolist()), 0.0).holds for own in noise]
    assert 0.74 < sum(t is True for t in trials) / len(trials) < 0.86
    assert needed(first, seen(first)) == 5 and needed(first, 1e-9) is None
    assert (needed(first, seen(first) / 2) or 0) > 12


def test_the_exponent_of_each_replica() -> None:
    x, each = [1.0, 2.0, 4.0], [1.0, 3.0]
    found = slopes(x, [[c * v**2 for c in each] for v in x])
    assert found.value == pytest.approx(2) and found.half == pytest.approx(0, abs=1e-9) and found.n == 2
    curved = [[c * v for c in each] for v in (1.0, 2.0, 16.0)]
    assert slope(x, [row[0] for row in curved]).half > 1 > slopes(x, curved).half, "no interval for what is curved"
