"""Triton's unpacking, packing and counting give the bits of the definitions."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import bits
from tests.kernels.cuda.both import check
from tests.kernels.inputs import DTYPES, LAYOUTS, words_like

SHAPES: list[tuple[int, ...]] = [(), (3,), (2, 3), (2, 1, 3)]
SIZES = (0, 1, 7, 63, 64, 65, 129, 1025, 2049, 16385)
CASES = [(n, SHAPES[i % 4] if n < 9999 else (2,), sorted(LAYOUTS)[i % 5], i) for i, n in enumerate(SIZES)]


def onto(
    kernel: Callable[..., Tensor], n: int, add: bool, layout: str, words: Tensor, scale: float | Tensor, old: Tensor
) -> Tensor:
    """What a kernel leaves in a buffer, laid out in memory as said."""
    buffer: Tensor = LAYOUTS[layout](torch.zeros_like(old)).copy_(old)
    assert kernel(words, n, scale, buffer, add) is buffer
    return buffer


@pytest.mark.parametrize(("n", "shape", "layout", "seed"), CASES)
def test_signs_flags_and_counts(n: int, shape: tuple[int, ...], layout: str, seed: int) -> None:
    words = LAYOUTS[layout](words_like((*shape, reference.num_words(n)), seed))
    for scale in (0.3, torch.rand(shape), torch.full(shape, torch.nan)):
        check(bits.unpack_signs, reference.unpack_signs, words, n, scale)
    flags = reference.unpack_bits(words, n)
    check(bits.unpack_bits, reference.unpack_bits, words, n)
    check(bits.pack_bits, reference.pack_bits, LAYOUTS[layout](flags))
    check(bits.count_bits, reference.count_bits, words)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_onto_buffers_of_every_format_and_layout(dtype: torch.dtype, layout: str) -> None:
    words, old = words_like((3, 2), 1), torch.randn(3, 100).to(dtype)
    old[0, 3], old[1, 5] = torch.inf, torch.nan
    for add in (False, True):
        scale = torch.rand(3) if add else 0.1
        kernel, definition = (partial(onto, room.unpack_signs, 100, add, layout) for room in (bits, reference))
        check(kernel, definition, words, scale, old)


@pytest.mark.parametrize("add", [False, True])
def test_onto_many_rows_and_other_formats(add: bool) -> None:
    words = words_like((1, 2), 1)
    for old in (torch.randn(3, 100), torch.ones(3, 100, dtype=torch.int32).double()):
        check(*(partial(onto, room.unpack_signs, 100, add, "padded") for room in (bits, reference)), words, 2.0, old)


def test_a_scale_for_more_rows_than_ballots_have() -> None:
    check(bits.unpack_signs, reference.unpack_signs, words_like((1, 2), 1), 100, torch.rand(4, 1))
    check(bits.unpack_signs, reference.unpack_signs, words_like((3, 2), 1), 100, torch.tensor(0.1, dtype=torch.float64))


@pytest.mark.parametrize("words", [0, -1])
def test_all_bits_alike_are_counted(words: int) -> None:
    check(bits.count_bits, reference.count_bits, torch.full((2, 5000), words))
