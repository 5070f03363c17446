"""Means, medians and trimmed means against numpy and scipy-free definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote.aggregators import Mean, Median, TrimmedMean
from tests.contract.parts import context, same, senders

ROWS = st.lists(
    st.tuples(st.floats(-1e6, 1e6, width=32), st.booleans()),
    min_size=1,
    max_size=9,
)


def given_rows(rows: list[tuple[float, bool]]) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    x = torch.tensor([v for v, _ in rows])[:, None, None]
    valid = torch.tensor([ok for _, ok in rows])[:, None]
    return x, valid, [v for v, ok in rows if ok]


@given(ROWS)
def test_mean_of_the_valid(rows: list[tuple[float, bool]]) -> None:
    x, valid, left = given_rows(rows)
    found = float(Mean()(x, valid, context(senders(len(rows)), 1)))
    assert found == pytest.approx(sum(left) / len(left), rel=1e-4, abs=1e-1) if left else math.isnan(found)


@given(ROWS)
def test_median_of_the_valid(rows: list[tuple[float, bool]]) -> None:
    x, valid, left = given_rows(rows)
    found = float(Median()(x, valid, context(senders(len(rows)), 1)))
    ranked = sorted(left)
    if not left:
        assert math.isnan(found)
    elif len(left) % 2:
        assert found == ranked[len(left) // 2]
    else:
        low, high = (torch.tensor(ranked[len(left) // 2 - k]) for k in (1, 0))
        assert found == float((low + high) / 2)


@given(ROWS, st.integers(0, 5))
def test_trimmed_mean_of_the_valid(rows: list[tuple[float, bool]], trim: int) -> None:
    x, valid, left = given_rows(rows)
    found = float(TrimmedMean(trim)(x, valid, context(senders(len(rows)), 1)))
    cut = min(trim, max((len(left) - 1) // 2, 0))
    rest = sorted(left)[cut : len(left) - cut]
    assert found == pytest.approx(sum(rest) / len(rest), rel=1e-4, abs=1e-1) if rest else math.isnan(found)


def test_enough_trimming_is_the_median() -> None:
    x, valid = torch.randn(6, 2, 5), torch.rand(6, 2) < 0.7
    ctx = context(senders(6), 2)
    assert same(TrimmedMean(10)(x, valid, ctx), Median()(x, valid, ctx))


def test_weighted_mean() -> None:
    x = torch.tensor([[1.0], [3.0], [100.0]])[:, None]
    valid = torch.tensor([[True], [True], [False]])
    assert float(Mean((3.0, 1.0, 5.0))(x, valid, context(senders(3), 1))) == 1.5


def test_weights_belong_to_workers_not_to_places() -> None:
    x, valid = torch.tensor([[1.0], [3.0]])[:, None], torch.ones(2, 1, dtype=torch.bool)
    late = context(torch.tensor([[2], [0]]), 1)
    assert float(Mean((1.0, 100.0, 3.0))(x, valid, late)) == 1.5
    with pytest.raises(ValueError, match="a worker 2; give one weight for each worker"):
        Mean((1.0, 1.0))(x, valid, late)
