"""Adam's step in Triton gives the bits of its definition."""

import pytest
import torch

from gradvote.kernels import Betas, adam_reference
from gradvote.kernels.cuda import adam
from tests.kernels.cuda.both import check
from tests.kernels.test_adam import moments

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
BETAS = Betas(0.8, 0.999, 1e-8)


@pytest.mark.parametrize("n", [0, 1, 7, 64, 65, 4097])
@pytest.mark.parametrize("odd", [1.0, float("nan"), float("inf")])
def test_step(n: int, odd: float) -> None:
    x = torch.randn(2, 3, n, generator=torch.Generator().manual_seed(2))
    if n:
        x[1, 2, -1] = odd
    check(adam.adam_step, adam_reference.adam_step, x, moments((2, 3), n, 1), BETAS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_formats(dtype: torch.dtype) -> None:
    x = torch.randn(3, 66, generator=torch.Generator().manual_seed(2)).to(dtype)
    check(adam.adam_step, adam_reference.adam_step, x, moments((3,), 66, 1), BETAS)
