"""States in half the memory: momenta and memories are bfloat16 between steps, and float32 while a step is worked out.

Every coordinate of a state is rounded when it is written, and what is sent is what it would be otherwise. A memory that
is rounded to the nearest number loses what is small beside it, in the same direction each time: a coordinate whose
gradient is 1/500 of its memory would never be heard. Rounded at random it is right on average (docs/memory.md).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradvote import kernels
from gradvote.codecs.error_feedback import ErrorFeedback
from gradvote.codecs.masked import Masked
from gradvote.codecs.sign import Sign
from gradvote.codecs.wrapper import WrapperCodec
from gradvote.core import Codec, Context, Payload, State
from gradvote.errors import unknown
from gradvote.kernels.cpu.spare import spare
from gradvote.rng import Draw, Stream, derive_key, root_of, senders_of

DTYPES = {"bfloat16": torch.bfloat16}
"""The types of states beside float32."""
SLICE = 1 << 18
"""Coordinates that are worked on in float32 at once, where blocks are not larger: what stays in the cache."""
AGAIN = 1 << 16
"""Added to the number of a state in its second draw of a step, that of an undelivered ballot."""
Rounding = Literal["stochastic", "nearest"]
Round = Callable[[int, Tensor], Tensor]
"""State number i, in float32, as it is kept."""


@dataclass(frozen=True)
class Rounded(WrapperCodec):
    """The codec inside, whose states are kept as `dtype`. Bits as of that codec.

    Only what holds a number for each coordinate is rounded: "stochastic", from the worker's private stream, so that the
    mean is exact; or to the "nearest". sent + unsent == input + unsent before to within 2⁻⁷ (nearest: 2⁻⁸) of unsent.
    An abstention changes no bit. What is taken over from a worker that leaves is rounded to the nearest.
    """

    codec: Codec
    dtype: str = "bfloat16"
    rounding: Rounding = "stochastic"
    INNER: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("type of states", self.dtype, ["float32", *DTYPES])
        if self.rounding not in get_args(Rounding):
            raise unknown("rounding", self.rounding, get_args(Rounding))

    @property
    def precision(self) -> float:
        return 2.0**-8 if self.rounding == "nearest" else 2.0**-7

    def init(self, like: Tensor) -> State:
        return _begun(self.codec.init(like), like.shape, DTYPES[self.dtype])

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        rows = x.shape[-2] if x.dim() > 1 else 1
        some = max(SLICE * rows // max(x.numel(), 1), 1)
        if some >= rows:
            return self._encode(x, state, ctx)
        parts, new = list[Payload](), room_like(state)
        for first in range(0, rows, some):
            at = slice(first, first + some)
            now = context_of(ctx, at)
            if isinstance(self.reader, Masked):
                self.reader.share_mask(x.shape[-1], ctx, now, at)
            payload, own = self._encode(x[..., at, :], _rows_of(state, at, x.dim()), now)
            put(own, _rows_of(new, at, x.dim()))
            parts.append(payload)
        return _joined_payload(parts, x.dim() - 2), new

    def _encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        payload, new = self.codec.encode(x, self.widened(state, x.dtype), ctx)
        return payload, self.narrowed(new, state, self._round(ctx))

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        new = self.codec.undelivered(self.widened(state), payload, ctx, n)
        return self.narrowed(new, state, self._round(ctx, AGAIN))

    def merge(self, own: State, other: State) -> State:
        merged = self.codec.merge(self.widened(own), self.widened(other))
        return self.narrowed(merged, own, self.nearest)

    def learn(self, state: State, decision: Payload) -> State:
        new = self.codec.learn(self.widened(state), decision)
        return self.narrowed(new, state, self.nearest)

    def widened(self, state: State, dtype: torch.dtype = torch.float32) -> State:
        """The state as the codec inside knows it, for an input of this type."""
        kept = DTYPES[self.dtype]

        def widen(own: Tensor) -> Tensor:
            return kernels.widen(own).to(torch.promote_types(dtype, torch.float32)) if own.dtype == kept else own

        return {key: self.widened(own, dtype) if isinstance(own, dict) else widen(own) for key, own in state.items()}

    def narrowed(self, new: State, old: State, round_: Round) -> State:
        """A new state as it is kept, like `old`; each tensor is let go as soon as it is rounded."""
        return _narrowed(new, old, DTYPES[self.dtype], round_, iter(range(AGAIN)))

    def nearest(self, number: int, x: Tensor) -> Tensor:
        """A state as it is kept where nothing is drawn."""
        return x.to(DTYPES[self.dtype])

    def _round(self, ctx: Context, first: int = 0) -> Round:
        if self.rounding == "nearest":
            return self.nearest
        return lambda i, x: kernels.narrow(x, draw_of(ctx, first + i))


def draw_of(ctx: Context, number: int) -> Draw:
    """The random bits by which state number `number` of a part is rounded in this step."""
    root = root_of(ctx, Stream.ROUNDING) + struct.pack("<I", number)
    key = derive_key(root, Stream.ROUNDING, ctx.step, ctx.attempt)
    return Draw(key, ctx.block, senders_of(ctx))


def context_of(ctx: Context, at: slice) -> Context:
    """The context of some rows of a group."""

    def some(given: Any) -> Any:
        return given[..., at] if isinstance(given, Tensor) and given.dim() and given.shape[-1] > 1 else given

    units = ctx.units if ctx.units.phase is None else replace(ctx.units, phase=some(ctx.units.phase))
    return replace(ctx, block=some(ctx.block), sender=some(ctx.sender), lr=some(ctx.lr), units=units, peers=())


def _begun(state: State, shape: torch.Size, kept: torch.dtype) -> State:
    """The first state, with a number for each coordinate as it is kept."""
    found: State = {}
    for key, own in state.items():
        if isinstance(own, dict):
            found[key] = _begun(own, shape, kept)
        else:
            found[key] = own.to(kept) if own.shape == shape and own.is_floating_point() else own
    return found


def _narrowed(new: State, old: State, kept: torch.dtype, round_: Round, numbers: Any) -> State:
    found: State = {}
    for key in list(new):
        own, before = new[key], old[key]
        if isinstance(own, dict):
            found[key] = _narrowed(own, before, kept, round_, numbers)
        elif before.dtype == kept and own.dtype != kept:
            found[key] = round_(next(numbers), own)
        else:
            found[key] = own
    return found


def _rows_of(state: State, at: slice, dim: int) -> State:
    """Some rows of tensors (..., B, n) and (..., B), where x has `dim` axes."""
    return {
        key: _rows_of(own, at, dim) if isinstance(own, dict) else own[..., at, :] if own.dim() == dim else own[..., at]
        for key, own in state.items()
    }


def room_like(state: State) -> State:
    """Room for a state of the same form."""
    return {key: room_like(own) if isinstance(own, dict) else _room(own) for key, own in state.items()}


def _room(own: Tensor) -> Tensor:
    return spare.empty(own.shape, own.dtype) if own.is_cpu else torch.empty_like(own)


def put(source: State, target: State) -> None:
    """Copy a state into room for it."""
    for key, own in source.items():
        if isinstance(own, dict):
            put(own, target[key])
        else:
            target[key].copy_(own)


def _joined_payload(parts: list[Payload], axis: int) -> Payload:
    """Payloads of rows behind each other; narrower ones are padded with zeros."""
    planes = {}
    for name in parts[0].planes:
        own = [part[name] for part in parts]
        width = max(plane.shape[-1] for plane in own)
        planes[name] = torch.cat([p if p.shape[-1] == width else pad(p, (0, width - p.shape[-1])) for p in own], axis)
    return Payload(torch.cat([part.valid for part in parts], axis), planes)


SAMPLES = (
    Rounded(ErrorFeedback(Sign("l1"))),
    Rounded(ErrorFeedback(Masked(0.3, Sign(0.05)), track_lr=False), rounding="nearest"),
)
