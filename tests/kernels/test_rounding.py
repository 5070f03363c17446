"""Rounding to bfloat16 at random: the definition's bits on odd shapes, and what a definition has to be."""

import pytest
import torch
from torch import Tensor

from gradvote import kernels
from gradvote.kernels import ragged_reference, rounding_reference
from gradvote.layout import layout_of
from gradvote.rng import Draw

SHAPES = [(3, 2, 70), (2, 1000), (5, 129), (1, 1), (2, 3, 300), (0, 5), (3, 0)]


def draw_for(shape: tuple[int, ...], key: int = 1 << 63 | 12345) -> Draw:
    return Draw(key, torch.arange(shape[-2]), torch.tensor(3))


def numbers(*shape: int) -> Tensor:
    """Of all sizes, with what is special."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator) * torch.exp(20 * torch.randn(shape, generator=generator))
    special = torch.tensor([torch.inf, -torch.inf, 3.4e38, -3.4e38, 0.0, -0.0, 1e-45])
    x.view(-1)[: len(special)] = special[: x.numel()]
    return x


def bits(x: Tensor) -> Tensor:
    return x.view(torch.int16)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_has_the_bits_of_the_definition(shape: tuple[int, ...]) -> None:
    x, draw = numbers(*shape), draw_for(shape)
    found = kernels.narrow(x, draw)
    assert torch.equal(bits(found), bits(rounding_reference.narrow(x, draw)))
    assert torch.equal(kernels.widen(found), found.float())
    strided = torch.stack((x, x), -1)[..., 0]
    assert torch.equal(bits(kernels.narrow(strided, draw)), bits(found))


def test_rows_of_unequal_length() -> None:
    rows = layout_of([1, 7, 300, 65, 1000], 256).ragged
    x, draw = numbers(rows.size), Draw(5, rows.block, torch.tensor(3))
    assert torch.equal(bits(kernels.ragged_narrow(x, draw, rows)), bits(ragged_reference.ragged_narrow(x, draw, rows)))


def test_one_of_the_two_neighbours_and_the_number_on_average() -> None:
    x = numbers(1, 2000)[:, 7:]
    found = torch.stack([kernels.narrow(x, draw_for(x.shape, key)).float() for key in range(256)])
    cut = (x.view(torch.int32) & -(1 << 16)).view(torch.float32)
    raised = (cut.view(torch.int32) + (1 << 16)).view(torch.float32)
    assert bool(((found == cut) | (found == raised)).all())
    error = (found.mean(0) - x) / (2.0**-7 * x.abs())
    assert abs(float(error.mean())) < 5 * 0.5 / (256 * 1993) ** 0.5
    assert float(error.abs().max()) < 5 * 0.5 / 16


def test_what_is_16_bits_long_already_stays() -> None:
    x = kernels.narrow(numbers(4, 333), draw_for((4, 333)))
    assert torch.equal(bits(kernels.narrow(x.float(), draw_for((4, 333), 99))), bits(x))
