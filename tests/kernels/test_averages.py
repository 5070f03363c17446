"""The compiled moving averages give the bits of the definition, for every shape and layout."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradvote.kernels import reference
from gradvote.kernels.cpu import averages
from tests.kernels.inputs import coordinates, layouts, same, seeds, shapes, sizes

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
factors = st.sampled_from([0.0, 0.1, 0.9, 1 - 0.9, 1.0])


@patient
@given(shape=shapes, n=sizes, beta=factors, gain=factors, layout=layouts, seed=seeds)
def test_averages(shape: tuple[int, ...], n: int, beta: float, gain: float, layout: str, seed: int) -> None:
    old = coordinates((*shape, n), torch.float32, seed)
    x = coordinates((*shape, n), torch.float32, seed + 1, layout)
    for found, expected in zip(
        averages.moving_average(old, beta, x, gain), reference.moving_average(old, beta, x, gain), strict=True
    ):
        assert same(found, expected)


@pytest.mark.parametrize("place", [0, 63, 64, 128])
@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf, 2.0**64, -1e38])
def test_a_block_that_is_not_finite_keeps_what_it_had(odd: float, place: int) -> None:
    old, x = torch.randn(3, 129), torch.randn(3, 129)
    x[1, place] = odd
    sent, kept = averages.moving_average(old, 0.9, x, 0.5)
    assert not sent[1].isfinite().all()
    assert torch.equal(kept[1], old[1])
    assert torch.equal(kept[[0, 2]], sent[[0, 2]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_greatest_number_that_is_taken(dtype: torch.dtype) -> None:
    """The same in float64: what is sent of it travels as float32."""
    old, x = torch.zeros(2, 65, dtype=dtype), torch.zeros(2, 65, dtype=dtype)
    x[:, 3] = torch.tensor([2.0**64 * (1 - 2**-24), 2.0**64], dtype=dtype)
    sent, kept = averages.moving_average(old, 0.9, x, 0.5)
    assert sent[:, 3].tolist() == [2.0**63 * (1 - 2**-24), torch.inf]
    assert torch.equal(kept[0], sent[0]) and torch.equal(kept[1], old[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_formats_take_the_definition(dtype: torch.dtype) -> None:
    wide = torch.promote_types(dtype, torch.float32)
    old, x = torch.randn(2, 65, dtype=wide), torch.randn(2, 65).to(dtype)
    for found, expected in zip(
        averages.moving_average(old, 0.9, x, 0.1), reference.moving_average(old, 0.9, x, 0.1), strict=True
    ):
        assert same(found, expected)


def test_a_large_row_on_two_threads() -> None:
    old, x = torch.randn(3_000_001), torch.randn(3_000_001)
    assert torch.equal(
        averages.moving_average(old, 0.9, x, 1 - 0.9)[0], reference.moving_average(old, 0.9, x, 1 - 0.9)[0]
    )
