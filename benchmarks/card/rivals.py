"""What one would write in plain PyTorch instead of each kernel, or call elsewhere. Without checks, masks or flags."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def eager_pack(x: Tensor, *_: Any) -> Tensor:
    bits = (x > 0).view(-1, 8).to(torch.uint8)
    return (bits << _places(x.device)).sum(-1, dtype=torch.uint8)


def eager_noisy(x: Tensor, std: float, *_: Any) -> Tensor:
    return eager_pack(x + torch.randn_like(x) * std)


def eager_unpack(words: Tensor, *_: Any) -> Tensor:
    bits = words.view(torch.uint8)[..., None] >> _places(words.device) & 1
    return bits.to(torch.float32).mul_(2.0).sub_(1.0)


def eager_vote(words: Tensor, *_: Any) -> Tensor:
    total = sum(eager_unpack(own) for own in words)
    return eager_pack(total)


def eager_memory(x: Tensor, memory: Tensor, ratio: Tensor, inertia: Any, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    m = inertia.momentum * inertia.mu + x
    p = x + m * inertia.mu + memory * ratio[:, None]
    scale = p.abs().mean(-1, keepdim=True)
    return eager_pack(p), p - scale * p.sign(), m


@functools.cache
def _places(device: torch.device) -> Tensor:
    return torch.arange(8, device=device, dtype=torch.uint8)


def _cupy() -> dict[str, Callable[..., Any]]:
    try:
        import cupy  # noqa: PLC0415  # a rival that is measured where it is installed
    except ImportError:
        return {}

    def pack(x: Tensor, *_: Any) -> Any:
        return cupy.packbits(cupy.from_dlpack(x.detach()).ravel() > 0)

    return {"cupy.packbits": pack}


CUPY = _cupy()
COMPILED = {"sign and pack, float32": eager_pack, "memory step, dist-EF": eager_memory, "vote, M = 7": eager_vote}
"""Measured by torch.compile, too."""
