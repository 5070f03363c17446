"""Votes counted by hand; weights; who is left when workers abstain."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote.aggregators import MajorityVote, Mean, Median
from tests.contract.parts import context, senders

ALL = torch.ones(3, 1, dtype=torch.bool)


def vote(rows: list[list[float]], valid: list[bool] | None = None, **options: object) -> list[float]:
    x = torch.tensor(rows)[:, None]
    flags = torch.tensor(valid)[:, None] if valid else torch.ones(len(rows), 1, dtype=torch.bool)
    found: list[float] = MajorityVote(**options)(x, flags, context(senders(len(rows)), 1))[0].tolist()  # type: ignore[arg-type]
    return found


def test_the_majority_wins_whatever_the_sizes() -> None:
    assert vote([[1e-9, -1e9], [2e-9, 1e-9], [-1e9, 1e-9]]) == [1, 1]


def test_zeros_are_no_votes() -> None:
    assert vote([[0.0, 0.0], [0.0, -5.0], [3.0, 0.0]]) == [1, -1]


@pytest.mark.parametrize(("tie", "expected"), [("positive", 1.0), ("abstain", 0.0)])
def test_ties(tie: str, expected: float) -> None:
    assert vote([[1.0, 0.0], [-1.0, 0.0]], tie=tie) == [expected, expected]


def test_abstaining_workers_leave_ties_behind() -> None:
    assert vote([[1.0], [1.0], [-1.0]], [True, False, True], tie="abstain") == [0.0]
    assert vote([[1.0], [1.0], [-1.0]], [False, False, True]) == [-1.0]


def test_weights() -> None:
    assert vote([[1.0], [1.0], [-1.0]], weights=(1.0, 1.0, 3.0)) == [-1.0]
    assert vote([[1.0], [1.0], [-1.0]], tie="abstain", weights=(1.0, 2.0, 3.0)) == [0.0]
    assert vote([[1.0], [1.0], [-1.0]], [True, True, False], weights=(1.0, 1.0, 3.0)) == [1.0]


@pytest.mark.parametrize("aggregator", [MajorityVote(weights=(1.0, 0.0, 0.0)), Mean((1.0, 0.0, 0.0))], ids=repr)
def test_nobody_with_a_weight_is_nobody(aggregator: MajorityVote | Mean) -> None:
    """A worker of weight zero does not turn "no decision" into a random step."""
    valid = ALL.clone()
    valid[0] = False
    assert bool(aggregator(torch.ones(3, 1, 4), valid, context(senders(3), 1)).isnan().all())
    assert not bool(aggregator(torch.ones(3, 1, 4), ALL, context(senders(3), 1)).isnan().any())


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=9))
def test_a_strict_majority_of_signs_decides_like_the_median(values: list[int]) -> None:
    x = torch.tensor(values, dtype=torch.float32)[:, None, None]
    valid, ctx = torch.ones(len(values), 1, dtype=torch.bool), context(senders(len(values)), 1)
    for sign in (1, -1):
        if sum(v * sign > 0 for v in values) * 2 > len(values):
            assert float(MajorityVote()(x, valid, ctx)) == sign
            assert float(Median()(x, valid, ctx)) * sign > 0
