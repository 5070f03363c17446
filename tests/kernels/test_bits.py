"""Compiled unpacking, packing and counting give the bits of the definitions."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from gradvote.kernels import reference
from gradvote.kernels.cpu import bits
from tests.kernels.inputs import LAYOUTS, layouts, same, seeds, shapes, sizes, words_like

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@patient
@given(shape=shapes, n=sizes, layout=layouts, seed=seeds)
def test_signs_unpacked(shape: tuple[int, ...], n: int, layout: str, seed: int) -> None:
    words = LAYOUTS[layout](words_like((*shape, reference.num_words(n)), seed))
    for scale in (1.0, 0.0, torch.rand(shape), torch.full(shape, torch.nan)):
        expected = reference.unpack_signs(words, n, scale)
        assert same(bits.unpack_signs(words, n, scale), expected)
        out, total = torch.randn(*shape, n), torch.randn(*shape, n)
        assert bits.unpack_signs(words, n, scale, out) is out
        assert same(out, expected)
        added = bits.unpack_signs(words, n, scale, total.clone(), add=True)
        assert same(added, total + expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_buffers_of_other_formats_and_layouts(dtype: torch.dtype) -> None:
    words, total = words_like((3, 2), 1), torch.randn(3, 100).to(dtype)
    assert same(
        bits.unpack_signs(words, 100, 0.5, total.clone(), add=True),
        total + reference.unpack_signs(words, 100, 0.5).to(dtype),
    )
    strided = torch.zeros(3, 200)[:, ::2]
    assert same(bits.unpack_signs(words, 100, 0.5, strided), reference.unpack_signs(words, 100, 0.5))


@patient
@given(shape=shapes, n=sizes, layout=layouts, seed=seeds)
def test_flags_and_counts(shape: tuple[int, ...], n: int, layout: str, seed: int) -> None:
    words = LAYOUTS[layout](words_like((*shape, reference.num_words(n)), seed))
    flags = reference.unpack_bits(words, n)
    assert torch.equal(bits.unpack_bits(words, n), flags)
    assert torch.equal(bits.pack_bits(LAYOUTS[layout](flags)), reference.pack_bits(flags))
    assert torch.equal(bits.count_bits(words), reference.count_bits(words))


@pytest.mark.parametrize("first", [0, 1, 16])
@pytest.mark.parametrize("n", [1 << 20, (1 << 20) + 33])
def test_large_results_wherever_they_begin(n: int, first: int) -> None:
    words, room = words_like((1, reference.num_words(n)), 1), torch.full((n + 32,), torch.nan)
    out = room[first : first + n].view(1, n)
    assert bits.unpack_signs(words, n, 0.5, out) is out
    assert torch.equal(out, reference.unpack_signs(words, n, 0.5))
    assert room[:first].isnan().all() and room[first + n :].isnan().all()
