"""Chen et al. 2020, Proposition 1: M odd, no coordinate of the median zero ⇒ sign(Σ sign g_i) = sign(median g_i)."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote.algorithms import mediansgd, signsgd
from tests.papers.play import play

VALUES = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-45, -1e-45])


@given(data=st.data(), half=st.integers(0, 4), zero=st.sampled_from(["random", "positive", "abstain"]))
def test_the_vote_is_the_sign_of_the_median(data: st.DataObject, half: int, zero: str) -> None:
    num_workers = 2 * half + 1
    rows = data.draw(st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=num_workers, max_size=num_workers))
    g = torch.tensor(rows, dtype=torch.float32)[:, None]
    median = g.sort(dim=0).values[half]
    start = torch.zeros(1, 3)
    vote = -next(play(signsgd(zero=zero), lambda x, step: g, start, 1.0, 1))  # type: ignore[arg-type]
    middle = -next(play(mediansgd(), lambda x, step: g, start, 1.0, 1))
    assert torch.equal(middle, median)
    decided = median != 0
    assert torch.equal(vote[decided], median.sign()[decided])
