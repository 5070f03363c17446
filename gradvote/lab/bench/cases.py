"""The operations that are measured: ours, the rival, what they move, and a check of ours against the definition.

Ours is called through `gradvote.kernels` and the codecs, as the library itself does. A check compares the first
`SAMPLE` coordinates with `kernels.reference`, or everything with plain torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote import algorithms, kernels
from gradvote.core import Context
from gradvote.kernels import reference
from gradvote.lab.bench import rivals
from gradvote.rng import Stream, draw

MODEL, MEDIAN = 25_557_032, 2_000_000
"""Coordinates of the goals: those of ResNet-50, and of the medians."""
SAMPLE = 1 << 16
KEEP, SCALE, MU, STD = 0.3, 6e-3, 0.9, 0.5
TARGETS: dict[tuple[str, int | str], float] = {
    **{("vote", m): ratio for m, ratio in {3: 100, 7: 40, 15: 35, 31: 30, 63: 20}.items()},
    **{("median", m): ratio for m, ratio in {3: 60, 7: 70, 15: 80, 31: 40, 64: 18}.items()},
    **{("noisy", b): ratio for b, ratio in {"gaussian": 5, "laplace": 9, "logistic": 6, "uniform": 5}.items()},
    ("drop sign", 1): 20,
    ("drop sign", 64): 45,
    ("unpack", ""): 8,
    ("pack", ""): 0.85,
}
"""Issue 3: at least so many times as fast as the rival, at d = 25,557,032 (median: 2,000,000) and two threads."""


@dataclass(frozen=True)
class Case:
    """One measurement: `variant` is the number of workers, the distribution or the granularity."""

    operation: str
    variant: int | str
    d: int
    ours: Callable[[], Any]
    rivals: dict[str, Callable[[], Any]]
    check: Callable[[], bool]
    bytes_read: int
    bytes_written: int

    @property
    def target(self) -> float | None:
        """The ratio asked for, or None at another size than that it is asked for."""
        asked_at = MEDIAN if self.operation == "median" else MODEL
        return TARGETS.get((self.operation, self.variant)) if self.d == asked_at else None


def pack(d: int) -> Case:
    """Signs to bits; the rival merely reads the tensor."""
    x = _normal(1, d)
    zeros = draw(context(), Stream.ZERO)

    def check() -> bool:
        return torch.equal(kernels.pack_signs(x, zeros)[:, : _words(d)], reference.pack_signs(_head(x), zeros))

    return Case("pack", "", d, lambda: kernels.pack_signs(x, zeros), {"torch.sum": x.sum}, check, 4 * d, d // 8)


def noisy(d: int, distribution: str = "gaussian") -> Case:
    """Signs of x + b·ξ to bits."""
    x, noise, zeros = _normal(1, d), draw(context(), Stream.NOISE), draw(context(), Stream.ZERO)

    def ours(x: Tensor = x) -> Tensor:
        return kernels.noisy_pack_signs(x, STD, noise, distribution, zeros)[0]

    def check() -> bool:
        expected = reference.noisy_pack_signs(_head(x), STD, noise, distribution, zeros)[0]
        return torch.equal(ours()[:, : _words(d)], expected)

    rival = {"torch and np.packbits": lambda: rivals.noisy_pack(x[0], STD, distribution)}
    return Case("noisy", distribution, d, ours, rival, check, 4 * d, d // 8)


def vote(d: int, num_workers: int = 7) -> Case:
    """The majority of packed ballots."""
    words = _words_of(num_workers, d)
    valid, ties = torch.ones(num_workers, 1, dtype=torch.bool), _words_of(1, d)[0]
    ballots = words[:, 0].numpy().view(np.uint8)

    def check() -> bool:
        head = words[..., : _words(d)]
        expected = reference.majority(head, None, valid, ties[:, : _words(d)])
        won = kernels.majority(words, None, valid, ties)
        return all(torch.equal(w[:, : _words(d)], e) for w, e in zip(won, expected, strict=True))

    def ours() -> Any:
        return kernels.majority(words, None, valid, ties)

    rival = {"np.unpackbits, add, compare, np.packbits": lambda: rivals.vote(ballots)}
    return Case("vote", num_workers, d, ours, rival, check, num_workers * d // 8, d // 8)


def median(d: int, num_workers: int = 7) -> Case:
    """The coordinate-wise median of float32 rows."""
    x, valid = _normal(num_workers, 1, d), torch.ones(num_workers, 1, dtype=torch.bool)
    array = x[:, 0].numpy()

    def check() -> bool:
        return torch.equal(kernels.median(x, valid)[:, :SAMPLE], reference.median(_head(x), valid))

    others = {"torch.median": lambda: x.median(0), "np.median": lambda: np.median(array, 0)}
    return Case("median", num_workers, d, lambda: kernels.median(x, valid), others, check, 4 * num_workers * d, 4 * d)


def drop_sign(d: int, granularity: int = 64) -> Case:
    """DropSignSGD's worker step: momentum, memory, mask, signs, compaction, new memory."""
    codec = algorithms.dropsignsgd(keep_up=KEEP, c=SCALE, mu=MU, granularity=granularity).up
    g, other = _normal(1, d), (torch.zeros(d), torch.zeros(d))
    state = codec.init(g)

    def ours() -> Any:
        nonlocal state
        payload, state = codec.encode(g, state, context())
        return payload

    def check() -> bool:
        nonlocal state
        ctx = context()
        old = state["0"]["momentum"].clone(), state["codec"]["memory"].clone()
        payload, state = codec.encode(g, state, ctx)
        momentum = old[0] * MU + g
        p, sent = g + momentum * MU + old[1], codec.decode(payload, ctx, d)
        drained = torch.equal(state["codec"]["memory"], p - sent)
        signed = torch.equal(sent[sent != 0] > 0, p[sent != 0] > 0)
        return drained and signed and torch.equal(state["0"]["momentum"], momentum) and _near(sent != 0, KEEP)

    rival = {"plain torch": lambda: rivals.drop_sign(g[0], *other, KEEP, SCALE, MU, granularity)}
    return Case("drop sign", granularity, d, ours, rival, check, 12 * d, 8 * d + int(KEEP * d / 8))


def unpack(d: int) -> Case:
    """Bits to ±scale, into the memory of an update."""
    words, scale, update = _words_of(1, d)[0], torch.tensor([SCALE]), torch.zeros(1, d)
    ballot, other = words[0].numpy().view(np.uint8), np.zeros(d, np.float32)

    def check() -> bool:
        expected = reference.unpack_signs(words[:, : _words(d)], min(d, SAMPLE), scale)
        return torch.equal(kernels.unpack_signs(words, d, scale, update.fill_(torch.nan))[:, :SAMPLE], expected)

    rival = {"np.unpackbits and arithmetic": lambda: rivals.unpack_into(ballot, other, SCALE)}
    return Case("unpack", "", d, lambda: kernels.unpack_signs(words, d, scale, update), rival, check, d // 8, 4 * d)


def context() -> Context:
    """One block, one sender."""
    return Context(seed=0, step=1, block=torch.zeros(1, dtype=torch.int64), sender=0)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _words_of(num_workers: int, d: int) -> Tensor:
    """Ballots (M, 1, W) of fair bits; zero beyond d."""
    words = torch.randint(-(2**63), 2**63 - 1, (num_workers, 1, kernels.num_words(d)))
    words[..., -1] &= (1 << d % 64) - 1 if d % 64 else -1
    return words


def _head(x: Tensor) -> Tensor:
    return x[..., :SAMPLE]


def _words(d: int) -> int:
    """Words of the sample."""
    return kernels.num_words(min(d, SAMPLE))


def _near(kept: Tensor, share: float) -> bool:
    """Within eight standard deviations of units of 64."""
    return bool((kept.float().mean() - share).abs() < 8 * (64 * share * (1 - share) / kept.numel()) ** 0.5)
