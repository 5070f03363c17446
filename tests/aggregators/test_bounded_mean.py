"""The bounded mean against its definition in numpy, and what it is for: one worker whose scale is a lie."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote import algorithms
from gradvote.aggregators import BoundedMean, Mean
from gradvote.core import Algorithm
from tests.contract.parts import context, same, senders

M, B, N = 5, 2, 65


def defined(x: np.ndarray, valid: np.ndarray, times: float) -> np.ndarray:
    """Block after block, as the docstring says it."""
    out = np.full(x.shape[1:], np.nan, np.float32)
    for b in range(x.shape[1]):
        rows = x[valid[:, b], b]
        if len(rows):
            largest = sorted(np.abs(row).max(initial=0) for row in rows)
            bound = np.float32(times) * largest[(len(rows) - 1) // 2]
            out[b] = np.clip(rows, -bound, bound).mean(0)
    return out


@given(st.integers(1, 8), st.sampled_from([0, 1, 7, 64]), st.sampled_from([1.0, 2.0, 7.5]), st.integers(0, 2**20))
def test_it_is_what_it_says(workers: int, n: int, times: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((workers, B, n)) * 10.0 ** rng.integers(-3, 4, (workers, B, 1))).astype(np.float32)
    valid = rng.random((workers, B)) < 0.7
    x[~valid] = np.nan
    found = BoundedMean(times)(torch.from_numpy(x), torch.from_numpy(valid), context(senders(workers), B))
    np.testing.assert_allclose(found.numpy(), defined(x, valid, times), rtol=1e-5, atol=1e-6)


def test_where_all_are_usual_it_is_the_mean() -> None:
    x, valid, ctx = torch.rand(M, B, N) + 1, torch.ones(M, B, dtype=torch.bool), context(senders(M), B)
    assert same(BoundedMean(2.0)(x, valid, ctx), Mean()(x, valid, ctx))


@pytest.mark.parametrize("times", [0.5, float("inf"), float("nan")])
def test_bounds_that_are_none_are_refused(times: float) -> None:
    with pytest.raises(ValueError, match=r"must be finite and at least 1; got"):
        BoundedMean(times)


@pytest.mark.parametrize(
    "algorithm",
    [algorithms.dist_ef_sgdm, algorithms.dist_ef_adam, lambda bound=None: algorithms.dropsignsgd(c="l1", bound=bound)],
)
def test_a_scale_that_is_a_lie_moves_the_mean_no_further_than_two_usual_ones(
    algorithm: Callable[..., Algorithm],
) -> None:
    honest = moved(algorithm(), None)
    plain = moved(algorithm(), 1e30)
    bounded = moved(algorithm(bound=2.0), 1e30)
    assert plain > 1e25 and bounded <= 2 * honest


def moved(algorithm: Algorithm, scale: float | None) -> float:
    """The largest coordinate of what the server takes from ballots of which the last says this scale."""
    x, ctx = torch.randn(M, B, N, generator=torch.Generator().manual_seed(0)), context(senders(M), B)
    ballots, _ = algorithm.encode(x, algorithm.up.init(x), ctx)
    if scale is not None:
        ballots["scale"][-1] = scale
    found = algorithm.up.reduce(ballots, algorithm.aggregate, ctx, N)
    return float(found.abs().max())
