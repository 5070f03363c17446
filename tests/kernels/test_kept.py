"""Signs that are only partly spoken, unpacked and averaged, have the bits of the definitions."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradvote.kernels import reference
from gradvote.kernels.cpu import kept
from tests.kernels.inputs import LAYOUTS, layouts, same, seeds, shapes, sizes, words_like

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@patient
@given(shape=shapes, n=sizes, layout=layouts, seed=seeds)
def test_unpacked(shape: tuple[int, ...], n: int, layout: str, seed: int) -> None:
    words, keep = (LAYOUTS[layout](words_like((*shape, reference.num_words(n)), seed + i)) for i in range(2))
    for scale in (1.0, 0.0, torch.rand(shape), torch.full(shape, torch.nan)):
        expected, out = reference.unpack_kept(words, keep, n, scale), torch.randn(*shape, n)
        assert same(kept.unpack_kept(words, keep, n, scale), expected)
        assert kept.unpack_kept(words, keep, n, scale, out) is out
        assert same(out, expected)
    other = torch.randn(*shape, n, dtype=torch.float64)
    assert torch.equal(
        kept.unpack_kept(words, keep, n, 0.5, other), reference.unpack_kept(words, keep, n, 0.5).double()
    )


@patient
@given(workers=st.integers(1, 9), shape=shapes, n=sizes, layout=layouts, masked=st.booleans(), seed=seeds)
def test_averaged(workers: int, shape: tuple[int, ...], n: int, layout: str, masked: bool, seed: int) -> None:
    full = (workers, *shape, reference.num_words(n))
    words, keep = (LAYOUTS[layout](words_like(full, seed + i)) for i in range(2))
    scales, counts = torch.rand(full[:-1]), torch.randint(1, workers + 1, shape).float()
    counts[counts == 1] = torch.nan
    spoken = keep if masked else None
    expected = reference.mean_signs(words, spoken, n, scales, counts)
    assert same(kept.mean_signs(words, spoken, n, scales, counts), expected)


def test_one_mask_and_one_scale_for_all() -> None:
    words, keep = words_like((3, 2, 5), 1), words_like((1, 2, 5), 2).expand(3, 2, 5)
    scales, counts = torch.tensor(0.5).expand(3, 2), torch.full((2,), 3.0)
    expected = reference.mean_signs(words, keep, 300, scales, counts)
    assert same(kept.mean_signs(words, keep, 300, scales, counts), expected)
