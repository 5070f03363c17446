"""The compiled mean, median and trimmed mean give the bits of their definitions, zeros, NaN and ±∞ included."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu import order

SPECIAL = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 3e38, -3e38, 1e-45, 1.0, 1.0])


@pytest.fixture(autouse=True)
def poisoned_and_split(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory holds NaN, and every second tile goes to another thread."""
    monkeypatch.setattr(torch, "empty", lambda *size, **how: torch.full(*size, -float("nan"), **how))
    monkeypatch.setattr(order, "PART", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def everyone(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:-1], dtype=torch.bool)


def some(x: Tensor, presence: float, seed: int = 5) -> Tensor:
    return torch.rand(x.shape[:-1], generator=torch.Generator().manual_seed(seed)) < presence


def same_bits(got: Tensor, expected: Tensor) -> bool:
    """Equal, and NaN where NaN is expected; 0 and −0 differ."""
    number = ~expected.isnan()
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[expected.element_size()]
    return torch.equal(got.isnan(), ~number) and torch.equal(got.view(bits)[number], expected.view(bits)[number])


def check(x: Tensor, valid: Tensor, trims: tuple[int, ...] = (0, 1, 3)) -> None:
    assert same_bits(order.median(x, valid), reference.median(x, valid))
    for trim in trims:
        assert same_bits(order.trimmed_mean(x, valid, trim), reference.trimmed_mean(x, valid, trim))
    weights = torch.linspace(0.0, 2.0, len(x), dtype=torch.float64)
    for each in (None, weights):
        assert same_bits(order.mean(x, valid, each), reference.mean(x, valid, each))


@pytest.mark.parametrize("num_workers", [*range(1, 34), 64, 65, 100])
def test_every_number_of_workers(num_workers: int) -> None:
    x = normal(num_workers, 2051)
    check(x, everyone(x), trims=())


@pytest.mark.parametrize("num_workers", [2, 7, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype(num_workers: int, dtype: torch.dtype) -> None:
    x = normal(num_workers, 3, 130).to(dtype)
    check(x, everyone(x))
    check(x, some(x, 0.6))


@pytest.mark.parametrize("num_workers", [1000, 4096])
def test_crowds(num_workers: int) -> None:
    x = normal(num_workers, 2, 19)
    check(x, some(x, 0.9), trims=(100,))


@pytest.mark.parametrize("n", [0, 1, 7, 15, 16, 17, 63, 64, 65, 1023, 1025, 16385])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_odd_sizes(n: int, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    x = normal(5, n)
    check(x, everyone(x), trims=(1,))


def test_abstaining_blocks_are_not_read() -> None:
    x = normal(6, 2, 7, 70)
    valid = some(x, 0.6)
    valid[:, 0, 0], valid[:, 1, 2] = False, True
    x[~valid] = torch.nan
    check(x, valid)
    assert order.median(x, valid)[valid.any(0)].isfinite().all()
    check(x, torch.zeros_like(valid))


def test_a_worker_that_is_lost_altogether() -> None:
    x = normal(5, 3, 40)
    valid = everyone(x)
    valid[2] = False
    check(x, valid)


@pytest.mark.parametrize("num_workers", [1, 2, 5, 8, 66])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_special_values(num_workers: int, dtype: torch.dtype) -> None:
    chosen = torch.randint(len(SPECIAL), (num_workers, 4000), generator=torch.Generator().manual_seed(1))
    x = SPECIAL[chosen].to(dtype)
    check(x, everyone(x))


def test_layouts() -> None:
    """Transposed axes, strided and shifted coordinates, broadcast rows."""
    base = normal(6, 5, 4, 70)
    views = (base.transpose(0, 1), base.transpose(1, 2), base[..., ::3], base[:, 1:, :, 3:], base[:1].expand_as(base))
    for x in views:
        check(x, everyone(x), trims=(1,))
    storage = torch.zeros(1 + 6 * 70)
    x = storage[1:].view(6, 70).copy_(base[:, 0, 0])
    check(x, torch.tensor(True).expand(6), trims=(1,))


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_no_weight_is_no_mean(weight: float) -> None:
    x = normal(3, 33)
    assert order.mean(x, everyone(x), torch.full((3,), weight)).isnan().all()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    num_workers=st.sampled_from([1, 2, 3, 6, 7, 33]),
    n=st.integers(0, 40) | st.integers(1020, 1030),
    presence=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    rule=st.sampled_from([order.median, order.mean, lambda x, valid: order.trimmed_mean(x, valid, 1)]),
    seed=st.integers(0, 99),
)
def test_any_shape(
    shape: list[int], num_workers: int, n: int, presence: float, rule: Callable[[Tensor, Tensor], Tensor], seed: int
) -> None:
    x = normal(num_workers, *shape, n, seed=seed)
    valid = some(x, presence, seed)
    expected = {order.median: reference.median, order.mean: reference.mean}.get(
        rule, lambda x, valid: reference.trimmed_mean(x, valid, 1)
    )
    assert same_bits(rule(x, valid), expected(x, valid))
