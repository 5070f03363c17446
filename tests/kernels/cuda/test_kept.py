"""Signs that are only partly spoken, unpacked and averaged on a card, have the bits of the definitions."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import kept
from tests.kernels.cuda.both import check
from tests.kernels.inputs import DTYPES, LAYOUTS, words_like

SHAPES: list[tuple[int, ...]] = [(), (3,), (2, 3), (2, 1, 3)]
SIZES = (0, 1, 7, 63, 64, 65, 129, 1025, 2049, 4160)
CASES = [(n, SHAPES[i % 4], sorted(LAYOUTS)[i % 5], i) for i, n in enumerate(SIZES)]


def onto(
    kernel: Callable[..., Tensor], layout: str, words: Tensor, keep: Tensor, n: int, scale: Tensor, old: Tensor
) -> Tensor:
    buffer: Tensor = LAYOUTS[layout](torch.zeros_like(old))
    assert kernel(words, keep, n, scale, buffer) is buffer
    return buffer


@pytest.mark.parametrize(("n", "shape", "layout", "seed"), CASES)
def test_unpacked_and_averaged(n: int, shape: tuple[int, ...], layout: str, seed: int) -> None:
    words, keep = (LAYOUTS[layout](words_like((*shape, reference.num_words(n)), seed + i)) for i in range(2))
    for scale in (0.3, torch.rand(shape), torch.full(shape, torch.nan)):
        check(kept.unpack_kept, reference.unpack_kept, words, keep, n, scale)
    workers = (1, 3, 5, 9)[seed % 4]
    full = (workers, *shape, reference.num_words(n))
    words, keep = (LAYOUTS[layout](words_like(full, seed + i)) for i in range(2))
    counts = torch.randint(1, workers + 1, shape).float()
    counts[counts == 1] = torch.nan
    for spoken in (None, keep):
        check(kept.mean_signs, reference.mean_signs, words, spoken, n, torch.rand(full[:-1]), counts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["padded", "strided"])
def test_onto_buffers_of_every_format_and_layout(dtype: torch.dtype, layout: str) -> None:
    words, keep, old = words_like((3, 2), 1), words_like((3, 2), 2), torch.randn(3, 100).to(dtype)
    kernel, definition = (partial(onto, room.unpack_kept, layout) for room in (kept, reference))
    check(kernel, definition, words, keep, 100, torch.rand(3), old)


def test_one_mask_and_one_scale_for_all() -> None:
    words, keep = words_like((3, 2, 5), 1), words_like((1, 2, 5), 2).expand(3, 2, 5)
    scales, counts = torch.tensor(0.3).expand(3, 2), torch.full((2,), 3, dtype=torch.int64)
    check(kept.mean_signs, reference.mean_signs, words, keep, 300, scales, counts)
    check(kept.unpack_kept, reference.unpack_kept, words, words_like((2, 5), 3), 300, torch.tensor(0.3))
