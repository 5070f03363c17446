"""Triton's noise, and noise then signs in one pass, give the bits of the definitions."""

import pytest
import torch
from torch import Tensor

from gradvote.kernels import quantiles, reference
from gradvote.kernels.cuda import noisy, noisy_signs
from tests.kernels.cuda.both import check
from tests.kernels.inputs import DTYPES, LAYOUTS, coordinates, draw_for
from tests.on_card import DEVICE

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
DISTRIBUTIONS = sorted(quantiles.QUANTILES)
SHAPES: list[tuple[int, ...]] = [(2,), (), (2, 2), (2, 1, 1)]
SIZES = (0, 1, 7, 63, 64, 65, 129, 1025, 2049, 65, 130, 64)
CASES = [
    (n, SHAPES[i % 4] if n < 999 else (2,), DTYPES[i % 4], sorted(LAYOUTS)[i % 5], DISTRIBUTIONS[(i + i // 4) % 4], i)
    for i, n in enumerate(SIZES)
]


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The interpreter takes as long for many coordinates at a time as for few."""
    if DEVICE == "cpu" and "as_on_a_card" not in request.node.name:
        monkeypatch.setattr(noisy_signs, "TILES", 16)
        monkeypatch.setattr(noisy_signs, "PARTS", 2)


@pytest.mark.parametrize(("n", "shape", "dtype", "layout", "distribution", "seed"), CASES)
def test_noise_and_signs(
    n: int, shape: tuple[int, ...], dtype: torch.dtype, layout: str, distribution: str, seed: int
) -> None:
    x, draw = coordinates((*shape, n), dtype, seed, layout), draw_for(shape, seed)
    check(noisy.noise, reference.noise, draw, n, distribution)
    stds: tuple[float | Tensor, ...] = (0.0, 0.7, torch.rand(shape))
    for std in stds:
        check(noisy.add_noise, reference.add_noise, x, std, draw, distribution)
    for std, zeros in zip(stds, (draw_for(shape, seed + 1), seed % 2 == 0, seed % 2 == 1), strict=True):
        check(noisy_signs.noisy_pack_signs, reference.noisy_pack_signs, x, std, draw, distribution, zeros)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_many_draws(distribution: str) -> None:
    """Enough for the rare branches and every exponent of the tails; signs against all sizes of noise."""
    draw = draw_for((4,), 8)
    x = torch.randn(4, 2049, generator=torch.Generator().manual_seed(1))
    check(noisy.noise, reference.noise, draw, 2049, distribution)
    std = torch.tensor([0.0, 0.02, 0.2, 1.0])
    check(noisy_signs.noisy_pack_signs, reference.noisy_pack_signs, x, std, draw, distribution, False)


@pytest.mark.parametrize("n", [600, 4161])
def test_parts_of_rows_as_on_a_card(n: int) -> None:
    x, draw = coordinates((1, n), torch.float32, 3), draw_for((1,), 8)
    check(noisy_signs.noisy_pack_signs, reference.noisy_pack_signs, x, 0.5, draw, "gaussian", draw)


@pytest.mark.parametrize("std", [torch.inf, torch.nan, 3e38, 6e37, -1.0, 1e-45, 1e-39])
@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_noise_out_of_range_is_flagged(std: float, distribution: str) -> None:
    x, draw = coordinates((2, 258), torch.float32, 1), draw_for((2,), 8)
    x *= 1e38 if std > 1 else min(max(abs(std), 1e-40), 1.0)
    check(noisy_signs.noisy_pack_signs, reference.noisy_pack_signs, x, std, draw, distribution, False)
    check(noisy.add_noise, reference.add_noise, x, std, draw, distribution)


def test_rows_that_only_the_draw_has() -> None:
    x, draw = coordinates((1, 3, 70), torch.float32, 1), draw_for((2, 3), 8)
    check(noisy_signs.noisy_pack_signs, reference.noisy_pack_signs, x, 0.5, draw, "gaussian", True)
    check(noisy.add_noise, reference.add_noise, x[0, 0], torch.rand(4, 1, 1), draw, "uniform")


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'laplace'"):
        noisy.noise(draw_for((), 1), 5, "laplac")


def test_other_formats_take_the_definition() -> None:
    x, draw = torch.tensor([[1, 0, 1]]), draw_for((1,), 1)
    check(noisy.add_noise, reference.add_noise, x, 0.5, draw, "uniform")
    check(noisy_signs.noisy_pack_signs, reference.noisy_pack_signs, x, 0.5, draw, "uniform", True)
