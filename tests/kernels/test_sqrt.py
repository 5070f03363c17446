"""Square roots are rounded to nearest, whatever the processor, the size and the layout."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from gradvote import kernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 7, 64, 65, 16385])
def test_the_nearest_number(n: int, dtype: torch.dtype) -> None:
    """Between half a step below and half a step above, squared, lies the number itself: asked of exact fractions."""
    x = torch.rand(n, dtype=dtype, generator=torch.Generator().manual_seed(n)) * 10.0 ** torch.randint(-30, 30, (n,))
    root = kernels.sqrt(x)
    assert root.dtype == dtype and root.shape == x.shape
    for own, r in list(zip(x.numpy(), root.numpy(), strict=True))[:300]:
        low, high = (Fraction(float(r)) + Fraction(float(np.nextafter(r, end))) for end in (r * 0, r * 2))
        assert (low / 2) ** 2 <= Fraction(float(own)) <= (high / 2) ** 2


def test_what_has_no_root_and_what_is_its_own() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, torch.inf, -1.0, torch.nan, 2.0**-149])
    root = kernels.sqrt(x)
    assert root[:4].tolist() == [0.0, 0.0, 1.0, torch.inf] and bool(torch.signbit(root[1]))
    assert bool(root[4:6].isnan().all()) and root[6] > 0
    half = torch.tensor([2.0, 3.0, 0.1]).to(torch.bfloat16)
    assert torch.equal(kernels.sqrt(half), kernels.sqrt(half.double()).to(torch.bfloat16))
    strided = torch.arange(20.0)[::2]
    assert torch.equal(kernels.sqrt(strided), kernels.sqrt(strided.clone()))
