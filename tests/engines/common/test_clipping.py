import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradvote import algorithms
from gradvote.engines.common.clipping import check_max_norm, clipped, factor, squares
from gradvote.engines.common.part import chunks_of
from gradvote.layout import layout_of

SIZES = [5, 64, 65, 130, 1, 16385]


def test_a_long_gradient_is_shortened_as_torch_does_it() -> None:
    layout, flat = layout_of(SIZES, 64), torch.randn(sum(SIZES))
    p = torch.nn.Parameter(torch.zeros_like(flat))
    p.grad = flat.clone()
    torch.nn.utils.clip_grad_norm_([p], 0.5)
    torch.testing.assert_close(clipped(layout, flat, 0.5), p.grad)
    assert clipped(layout, flat, 1e9) is flat and clipped(layout, flat, None) is flat


def test_each_worker_is_bounded_by_itself() -> None:
    layout = layout_of(SIZES, 64)
    rows = torch.randn(3, sum(SIZES)) * torch.tensor([[1e-4], [1.0], [100.0]])
    together = clipped(layout, rows, 1.0)
    assert all(torch.equal(own, clipped(layout, row, 1.0)) for own, row in zip(together, rows, strict=True))
    assert torch.equal(together[0], rows[0]) and float(together[2].norm()) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e38])
def test_what_is_not_finite_does_not_shorten_the_rest(bad: float) -> None:
    """Its block abstains; a norm that is not finite would silence the whole worker."""
    layout, flat = layout_of([64, 64], 64), torch.ones(128)
    flat[3] = bad
    found = clipped(layout, flat, 4.0)
    torch.testing.assert_close(found[64:], torch.full((64,), 0.5))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(0, 200), min_size=1, max_size=6), st.integers(0, 99))
def test_the_bound_does_not_depend_on_the_parts_a_gradient_comes_in(chunks: int, sizes: list[int], seed: int) -> None:
    layout = layout_of(sizes, 50)
    flat = torch.randn(layout.size, generator=torch.Generator().manual_seed(seed))
    whole = factor([squares(layout, flat)], 0.7)
    parts = chunks_of(layout, chunks) if layout.size else []
    ends = torch.tensor([part.size for part in parts]).cumsum(0).tolist()
    pieces = [flat[end - part.size : end] for part, end in zip(parts, ends, strict=True)]
    assert factor([squares(own, x) for own, x in zip(parts, pieces, strict=True)], 0.7) == whole


def test_a_bound_that_does_nothing_is_said() -> None:
    with pytest.warns(UserWarning, match="max_norm=1.0 does nothing here"):
        check_max_norm(1.0, algorithms.signsgd())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for algorithm in (algorithms.signum(), algorithms.noisy(algorithms.signsgd()), algorithms.mediansgd()):
            check_max_norm(1.0, algorithm)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_is_a_positive_number(bad: float) -> None:
    with pytest.raises(ValueError, match="max_norm must be positive and finite"):
        check_max_norm(bad, algorithms.signum())
