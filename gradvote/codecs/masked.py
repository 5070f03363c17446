"""Random masks agreed through the shared generator: only the kept bits travel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs.sign import Sign
from gradvote.codecs.wrapper import WrapperCodec
from gradvote.core import SERVER, Context, Payload, Plane, State
from gradvote.rng import Stream, draw
from gradvote.schedules import PerWorker, Schedule, evaluate
from gradvote.staging import CPU, to_device, to_host

UNITS = 65536
KEPT = ("bits", "nonzero")
"""The planes with a bit for each coordinate that is sent."""


@dataclass(frozen=True)
class Masked(WrapperCodec):
    """Each unit of `granularity` coordinates is sent with probability `keep`, in (0, 1]; the others decode to zero.

    `keep` is rounded to a multiple of 2⁻¹⁶ and may be a schedule, also per worker. Granularity 1 is the papers';
    64 is faster. Masks are public: both ends compute them, they cost no bytes. keep·n bits per block on average.
    """

    keep: float | Schedule
    codec: Sign
    granularity: int = 1
    INNER: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not isinstance(self.keep, Schedule):
            threshold_of(torch.tensor(float(self.keep), device=CPU))
        if self.granularity not in (1, 64):
            raise ValueError(f"The granularity of a mask must be 1 or 64; got {self.granularity}.")

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        widths = self._widths(n, ctx)
        return tuple(Plane(p.name, p.dtype, widths) if p.name in KEPT else p for p in self.codec.planes(n, ctx))

    def mask(self, n: int, ctx: Context) -> Tensor:
        """The kept coordinates (..., B, W); drawn once for a context, not to be written to."""
        key = self._key(n)
        if key not in ctx.memo:
            if isinstance(self.keep, Schedule):
                keep = evaluate(self.keep, ctx, on_host=True)
                threshold: int | Tensor = to_device(threshold_of(keep), ctx.block.device)
            else:
                threshold = round(self.keep * UNITS)
            ctx.memo[key] = kernels.keep_bits(draw(ctx, Stream.MASK), n, threshold, self.granularity)
        return ctx.memo[key]

    def share_mask(self, n: int, ctx: Context, some: Context, at: slice) -> None:
        """Let the context of some rows have their part of the mask, so that it is drawn once."""
        some.memo[self._key(n)] = self.mask(n, ctx)[..., at, :]

    def _key(self, n: int) -> tuple[object, ...]:
        return self.keep, self.granularity, n

    def counts(self, n: int, ctx: Context) -> Tensor:
        """How many coordinates are kept (..., B); counted once for a context."""
        key = (self.keep, self.granularity, n, "counts")
        if key not in ctx.memo:
            ctx.memo[key] = kernels.count_bits(self.mask(n, ctx))
        return ctx.memo[key]

    def _widths(self, n: int, ctx: Context) -> Tensor:
        """How many words their bits fill (..., B), on the host: the length of a message is known before it is made."""
        key = (self.keep, self.granularity, "widths")
        if (*key, n) not in ctx.memo:
            lacking = [(m, own) for m, own in _together(ctx, n) if (*key, m) not in own.memo]
            widths = to_host([(self.counts(m, own) + 63) >> 6 for m, own in lacking])
            for (m, own), width in zip(lacking, widths, strict=True):
                own.memo[*key, m] = width
        return ctx.memo[*key, n]

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        n = x.shape[-1]
        return self.compacted(self.codec.encode_kept(x, self.mask(n, ctx), ctx), n, ctx), state

    def compacted(self, payload: Payload, n: int, ctx: Context) -> Payload:
        """The payload with the bits of the kept coordinates only."""
        keep, widths = self.mask(n, ctx), self._widths(n, ctx)
        width = int(widths.amax()) if widths.numel() else 0
        return _bit_planes(payload, lambda bits: kernels.compact(bits, keep, width))

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        keep = self.mask(n, ctx)
        return self.codec.decode_kept(self.expanded(payload, keep), keep, ctx, n)

    def expanded(self, payload: Payload, keep: Tensor) -> Payload:
        """The inverse of `compacted`: bits outside `keep` are zero."""
        return _bit_planes(payload, lambda bits: kernels.expand(bits, keep))


def _together(ctx: Context, n: int) -> list[tuple[int, Context]]:
    """The contexts of which a card is asked at once, as each answer is waited for, with the n of their blocks.

    On the CPU, where nobody waits, only this one: what is worked out just before its use is in the cache.
    """
    if ctx.block.is_cpu:
        return [(n, ctx)]
    alive = [(m, found) for m, peer in ctx.peers if (found := peer()) is not None]
    if not isinstance(ctx.sender, Tensor) and ctx.sender == SERVER:
        alive = [(m, found.as_server()) for m, found in alive]
    return alive if any(found is ctx for _, found in alive) else [(n, ctx)]


def threshold_of(keep: Tensor) -> Tensor:
    """The share of kept coordinates in units of 2⁻¹⁶."""
    threshold = (keep * UNITS).round().to(torch.int64)
    if bool(((threshold < 1) | (keep > 1)).any()):
        value = float(keep.flatten()[((threshold < 1) | (keep > 1)).flatten()][0])
        raise ValueError(f"The share of kept coordinates must lie in (0, 1], at least 2⁻¹⁶; got {value}.")
    return threshold


def _bit_planes(payload: Payload, change: Callable[[Tensor], Tensor]) -> Payload:
    planes = {k: change(p) if k in KEPT else p for k, p in payload.planes.items()}
    return Payload(payload.valid, planes)


SAMPLES = (
    Masked(0.3, Sign()),
    Masked(0.5, Sign("l1")),
    Masked(PerWorker((0.3, 0.6, 1.0, 0.1, 0.5, 0.2, 0.9)), Sign(0.1, "abstain")),
    Masked(0.4, Sign("l1", "abstain"), 64),
    Masked(1.0, Sign(zero="positive")),
    Masked(0.4, Sign(still=True)),
)
