"""Inputs that kernels must take: shapes, layouts, formats, and values at the edges."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from gradvote.rng import Draw

SIZES = (0, 1, 7, 63, 64, 65, 127, 128, 129, 1024, 1025, 2049)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "strided": lambda x: torch.stack((x, x), -1).flatten(-2)[..., ::2],
    "unaligned": lambda x: torch.cat((x.new_zeros(1), x.flatten()))[1:].view(x.shape),
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "padded": lambda x: torch.nn.functional.pad(x, (0, 5))[..., : x.shape[-1]],
}

sizes = st.sampled_from(SIZES)
shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
dtypes = st.sampled_from(DTYPES)
layouts = st.sampled_from(sorted(LAYOUTS))
seeds = st.integers(0, 2**32 - 1)


def coordinates(shape: tuple[int, ...], dtype: torch.dtype, seed: int, layout: str = "contiguous") -> Tensor:
    """Gaussian numbers, some zeros of both signs; in every third tensor also NaN, infinities, 1e30, the tiniest."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    x = torch.where(x.abs() < 0.3, x.sign() * 0.0, x).to(dtype)
    if seed % 3 == 0 and x.numel():
        odd = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, 5e-324 if dtype == torch.float64 else 1e-45]).to(
            dtype
        )
        x.view(-1)[torch.randint(x.numel(), (5,), generator=generator)] = odd
    return LAYOUTS[layout](x)


def words_like(shape: tuple[int, ...], seed: int) -> Tensor:
    """Packed bits."""
    return torch.randint(-(2**63), 2**63 - 1, shape, generator=torch.Generator().manual_seed(seed))


def draw_for(shape: tuple[int, ...], seed: int) -> Draw:
    """A position in a stream for rows of this shape; keys of both halves, one sender for all or one each."""
    block = torch.arange(shape[-1] if shape else 1).view(shape[-1:]) + seed % 1000
    sender = (
        torch.tensor(2**32 - 1)
        if seed % 2
        else torch.arange(shape[0] if shape else 1).view(shape[:1] + (1,) * max(len(shape) - 1, 0))
    )
    return Draw(seed * 0x9E3779B97F4A7C15 % 2**64, block, sender)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal in type, shape and every bit, apart from the payload of NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    equal = (a == b) & (a.signbit() == b.signbit())
    return bool((equal | (a.isnan() & b.isnan())).all())
