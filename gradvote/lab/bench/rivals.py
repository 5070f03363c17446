"""What a user would write instead: plain numpy and torch, as short as it goes, for the same results or their like."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]


def pack(x: Tensor) -> Bytes:
    """Signs by `np.packbits`."""
    return np.packbits(x.numpy() > 0, bitorder="little")


def vote(ballots: Bytes) -> Bytes:
    """Row-wise: unpack, add, compare, pack."""
    total = np.zeros(8 * ballots.shape[1], np.uint8 if len(ballots) < 256 else np.uint16)
    for ballot in ballots:
        total += np.unpackbits(ballot)
    return np.packbits(total > len(ballots) // 2)


def unpack_into(words: Bytes, update: NDArray[np.float32], scale: float) -> None:
    """±scale by `np.unpackbits`, written to an update."""
    np.subtract(np.unpackbits(words, count=len(update), bitorder="little") * np.float32(2 * scale), scale, out=update)


def _laplace(n: int) -> Tensor:
    u = torch.rand(n) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs())


DRAWS: dict[str, Callable[[int], Tensor]] = {
    "gaussian": torch.randn,
    "laplace": _laplace,
    "logistic": lambda n: torch.logit(torch.rand(n)),
    "uniform": torch.rand,
}


def noisy_pack(x: Tensor, std: float, distribution: str) -> Bytes:
    """torch draws, times b, added, and packed."""
    return pack(x + std * DRAWS[distribution](x.shape[-1]))


def drop_sign(
    g: Tensor, momentum: Tensor, memory: Tensor, keep: float, scale: float, mu: float, granularity: int
) -> Bytes:
    """The worker's step in plain operations, mask by `torch.rand`; momentum and memory in place."""
    momentum.mul_(mu).add_(g)
    p = g + momentum * mu + memory
    mask = torch.rand(-(-p.numel() // granularity)) < keep
    if granularity > 1:
        mask = mask.repeat_interleave(granularity)[: p.numel()]
    torch.sub(p, torch.where(mask, torch.where(p > 0, scale, -scale), 0.0), out=memory)
    return pack(p[mask])
