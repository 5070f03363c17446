"""Adam's step gives the bits of its definition, for every size and layout, and keeps what is not finite out."""

import pytest
import torch

from gradvote import kernels
from gradvote.kernels import Betas, Moments, adam_reference
from tests.kernels.inputs import same

BETAS = Betas(0.8, 0.999, 1e-8)


def moments(lead: tuple[int, ...], n: int, seed: int) -> Moments:
    generator = torch.Generator().manual_seed(seed)
    m, v = (torch.randn(*lead, n, generator=generator) for _ in range(2))
    return Moments(m, v.square(), *(torch.rand(lead, generator=generator) for _ in range(2)))


@pytest.mark.parametrize("n", [0, 1, 7, 63, 64, 65, 1000, 16385])
@pytest.mark.parametrize("odd", [1.0, float("nan"), float("inf"), 1e30])
def test_bits_of_the_definition(n: int, odd: float) -> None:
    old = moments((2, 3), n, 1)
    x = torch.randn(2, 3, n, generator=torch.Generator().manual_seed(2))
    if n:
        x[1, 2, -1] = odd
        x[0, 0, 0] = 0
    before = [t.clone() for t in (x, *old)]
    for _ in range(2):
        update, new = kernels.adam_step(x, old, BETAS)
        expected, moved = adam_reference.adam_step(x, old, BETAS)
        assert same(update, expected) and all(same(a, b) for a, b in zip(new, moved, strict=True))
    assert all(same(a, b) for a, b in zip((x, *old), before, strict=True))
    if n and odd != 1.0:
        assert all(torch.equal(a[1, 2], b[1, 2]) for a, b in zip(new, old, strict=True))


@pytest.mark.parametrize("layout", ["strided", "transposed", "bfloat16", "float64"])
def test_other_layouts_and_formats(layout: str) -> None:
    old, x = moments((3,), 66, 4), torch.randn(3, 132, generator=torch.Generator().manual_seed(3))[:, ::2]
    if layout == "transposed":
        x = x.t().contiguous().t()
    if layout == "bfloat16":
        x = x.to(torch.bfloat16)
    if layout == "float64":
        x, old = x.double(), Moments(*(t.double() for t in old))
    found, expected = (step(x, old, BETAS) for step in (kernels.adam_step, adam_reference.adam_step))
    assert same(found[0], expected[0]) and all(same(a, b) for a, b in zip(found[1], expected[1], strict=True))
