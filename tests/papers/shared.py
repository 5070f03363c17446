"""What the transcriptions share: test gradients, and the draws of the shared generator (the papers' maskgen).

The transcriptions know nothing of codecs, payloads or blocks: they work on lists of tensors, one worker after another,
in float32. Two conventions are the library's and not the papers': what the sign of an exact zero is, and the order of
a sum within a tensor (`norm1`).
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from gradvote.core import SERVER, Context
from gradvote.kernels import reference
from gradvote.rng import Draw, Stream, draw

Tensors = list[Tensor]

NUMELS = (65, 1, 7, 1100)
SEED = 11


class Generator:
    """Draws for a model of NUMELS tensors in blocks of `block_size` coordinates (None: whole tensors)."""

    def __init__(self, block_size: int | None = None) -> None:
        self.block_size = block_size

    def zero_signs(self, step: int, sender: int) -> Tensors:
        """±1 for exact zeros of a sender."""
        return _signs(self.block_size, Stream.ZERO, step, sender)

    def tie_signs(self, step: int) -> Tensors:
        """±1 for tied votes."""
        return _signs(self.block_size, Stream.TIE, step, SERVER)

    def kept(self, step: int, sender: int, keep: float) -> Tensors:
        """maskgen(t, i): 1 with probability `keep`, else 0."""
        return _kept(self.block_size, step, sender, keep)

    def noise(self, step: int, sender: int, distribution: str) -> Tensors:
        """ξ."""
        return _noise(self.block_size, step, sender, distribution)


def _draws(block_size: int | None, stream: Stream, step: int, sender: int) -> list[tuple[Draw, int]]:
    """For each tensor the draw of its blocks, and their size; blocks are numbered through the model."""
    draws, number = [], 0
    for numel in NUMELS:
        size = min(block_size or numel, numel)
        count = -(-numel // size)
        blocks = torch.arange(number, number + count)
        draws.append((draw(Context(SEED, step, blocks, sender), stream), size))
        number += count
    return draws


def _tensors(blocks: Sequence[Tensor]) -> Tensors:
    return [b.flatten()[:numel].float() for b, numel in zip(blocks, NUMELS, strict=True)]


@cache
def _signs(block_size: int | None, stream: Stream, step: int, sender: int) -> Tensors:
    draws = _draws(block_size, stream, step, sender)
    return _tensors([reference.unpack_bits(reference.random_bits(d, n), n) * 2 - 1 for d, n in draws])


@cache
def _kept(block_size: int | None, step: int, sender: int, keep: float) -> Tensors:
    draws, threshold = _draws(block_size, Stream.MASK, step, sender), round(keep * 65536)
    return _tensors([reference.unpack_bits(reference.keep_bits(d, n, threshold), n) for d, n in draws])


@cache
def _noise(block_size: int | None, step: int, sender: int, distribution: str) -> Tensors:
    draws = _draws(block_size, Stream.NOISE, step, sender)
    return _tensors([reference.noise(d, n, distribution) for d, n in draws])


class Signs:
    """sign(x), where the sign of an exact zero is "random", "positive" or "abstain".

    `still`: of a unit that is all zeros the signs are zero. A unit is 64 coordinates of a tensor, cut at blocks' ends.
    """

    def __init__(self, generator: Generator, zero: str, still: bool = False) -> None:
        self.generator, self.zero, self.still = generator, zero, still

    def __call__(self, x: Tensors, step: int, sender: int) -> Tensors:
        return self._where_some(x, self._with(x, self.generator.zero_signs(step, sender)))

    def vote(self, ballots: list[Tensors], step: int, weights: Sequence[float] | None = None) -> Tensors:
        """sign(Σ w_i·sign(x_i)): a tie is a zero, and so is what nobody voted on."""
        total, heard = zeros(), zeros()
        for i, ballot in enumerate(ballots):
            weight = 1.0 if weights is None else weights[i]
            total = [a + weight * b for a, b in zip(total, ballot, strict=True)]
            heard = [a + b.abs() for a, b in zip(heard, ballot, strict=True)]
        return self._where_some(heard, self._with(total, self.generator.tie_signs(step)))

    def _where_some(self, x: Tensors, signs: Tensors) -> Tensors:
        """The signs, but zeros in the units in which all of x is zero."""
        if self.still:
            for x_k, signs_k in zip(x, signs, strict=True):
                for start, stop in pairwise(self._borders(len(x_k))):
                    if not x_k[start:stop].any():
                        signs_k[start:stop] = 0
        return signs

    def _borders(self, numel: int) -> list[int]:
        block_size = self.generator.block_size or numel
        return [k for k in range(numel) if k % 64 == 0 or k % block_size == 0] + [numel]

    def _with(self, x: Tensors, random: Tensors) -> Tensors:
        zero = {"random": random, "positive": [torch.ones_like(r) for r in random]}.get(self.zero)
        zero = zero or [torch.zeros_like(r) for r in random]
        return [torch.where(a > 0, 1.0, torch.where(a < 0, -1.0, z)) for a, z in zip(x, zero, strict=True)]


class Noise:
    """b·ξ with the same draws as the library's; calling it gives x + b·ξ."""

    def __init__(self, generator: Generator, b: float, distribution: str) -> None:
        self.generator, self.b, self.distribution = generator, b, distribution

    def __call__(self, x: Tensors, step: int, sender: int) -> Tensors:
        xi = self.generator.noise(step, sender, self.distribution)
        return [a + self.b * z for a, z in zip(x, xi, strict=True)]


def no_noise(x: Tensors, step: int, sender: int) -> Tensors:
    return x


def norm1(x: Tensor) -> Tensor:
    """‖x‖₁, summed in halves: tiles of 1024 first, then the tiles."""
    tiles = [_halves(tile) for tile in x.abs().split(1024)]
    return _halves(torch.stack(tiles))


def _halves(x: Tensor) -> Tensor:
    size = 1
    while size < len(x):
        size *= 2
    x = torch.cat((x, torch.zeros(size - len(x))))
    while len(x) > 1:
        lower, upper = x.chunk(2)
        x = lower + upper
    return x[0]


def average(vectors: Sequence[Tensor]) -> Tensor:
    """(1/M) Σ_i, in order of the workers."""
    total = torch.zeros_like(vectors[0])
    for v in vectors:
        total = total + v
    return total / len(vectors)


def zeros() -> Tensors:
    return [torch.zeros(n) for n in NUMELS]


@cache
def gradients(num_workers: int, steps: int) -> list[list[Tensors]]:
    """[step][worker][tensor]: workers that differ in direction and size; zeros, also in a row, ties, repetitions."""
    generator = torch.Generator().manual_seed(num_workers)
    lasting = [[torch.randn(n, generator=generator) for n in NUMELS] for _ in range(num_workers)]

    def one(worker: int) -> Tensors:
        out = []
        for mean in lasting[worker]:
            g = (mean + torch.randn(len(mean), generator=generator)) * 10.0 ** (worker - 1)
            coarse = torch.rand(len(g), generator=generator) < 0.3
            g = torch.where(coarse, g.sign(), g)
            out.append(torch.where(torch.rand(len(g), generator=generator) < 0.1, 0.0, g))
        out[-1][100 : 300 + 100 * worker] = 0.0
        return out

    return [[one(i) for i in range(num_workers)] for _ in range(steps)]
