"""One bit per coordinate: signs, optionally with one scale per block."""

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Codec, Context, Payload, Plane, State
from gradvote.errors import unknown
from gradvote.rng import Draw, Stream, draw
from gradvote.schedules import Schedule, Step, evaluate

LARGEST = 3.4e38
"""About the largest float32, in which scales travel."""

Zero = Literal["random", "positive", "abstain"]
ZEROS = ("random", "positive", "abstain")


@dataclass(frozen=True)
class Sign(Codec):
    """decode(encode(x)) = s·sign(x), with s = 1 (`scale=None`), a constant or schedule c, or ‖x‖₁/n per block ("l1").

    n counts the coordinates sent. One bit per coordinate, 32 more per block for "l1". What the sign of an exact zero
    is: "random" (a fair bit of the sender), "positive", or "abstain" (a second bit plane: sign(0) = 0).
    `still=True`: units of exact zeros (`Context.units`: 64 coordinates, or a row) decode to zero; one bit per unit.
    A block with a non-finite value abstains.
    """

    scale: float | Schedule | Literal["l1"] | None = None
    zero: Zero = "random"
    still: bool = False

    def __post_init__(self) -> None:
        if self.zero not in ZEROS:
            raise unknown("rule for zeros", self.zero, ZEROS)
        if isinstance(self.scale, str) and self.scale != "l1":
            raise unknown("scale of signs", self.scale, ["l1"])
        if isinstance(self.scale, int | float) and not 0 < self.scale <= LARGEST:
            raise ValueError(f"The scale of signs must be positive and finite, a float32; got {self.scale}.")

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        bits = Plane("bits", torch.int64, kernels.num_words(n))
        nonzero = (Plane("nonzero", torch.int64, kernels.num_words(n)),) if self.zero == "abstain" else ()
        still = (Plane("still", torch.int64, kernels.num_words(ctx.units.count(n))),) if self.marks else ()
        scale = (Plane("scale", torch.float32, 1),) if self.scale == "l1" else ()
        return (bits, *nonzero, *still, *scale)

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        return self.encode_kept(x, None, ctx), state

    def encode_kept(self, x: Tensor, keep: Tensor | None, ctx: Context) -> Payload:
        """The payload of x (..., B, n) whose l1 scale counts only the coordinates set in `keep` (..., B, W)."""
        if self.marks:
            bits, valid, still = kernels.still_pack_signs(x, self.zeros(ctx), ctx.units)
            planes = {"bits": bits, "still": still}
        else:
            bits, valid = kernels.checked_pack_signs(x, self.zeros(ctx))
            planes = {"bits": bits}
        if self.zero == "abstain":
            planes["nonzero"] = kernels.pack_bits(x != 0)
        if self.scale == "l1":
            scale = kernels.mean_abs(x, keep).float()
            planes["scale"] = scale[..., None]
            valid = valid & torch.isfinite(scale)
        return Payload(valid, planes)

    @property
    def marks(self) -> bool:
        """Whether units of zeros are marked in a plane of their own: one of all zeros would repeat it."""
        return self.still and self.zero != "abstain"

    def zeros(self, ctx: Context) -> Draw | bool:
        """What the bit of an exact zero is: a draw or a constant."""
        return draw(ctx, Stream.ZERO) if self.zero == "random" else self.zero == "positive"

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return self.decode_kept(payload, None, ctx, n)

    def check(self, payload: Payload, n: int) -> Payload:
        if self.scale != "l1":
            return payload
        scale = payload["scale"][..., 0]
        return Payload(payload.valid & torch.isfinite(scale) & (scale >= 0), payload.planes)

    def decode_kept(self, payload: Payload, keep: Tensor | None, ctx: Context, n: int) -> Tensor:
        """`decode`, zero outside `keep`."""
        out = torch.empty(*payload.valid.shape, n, device=payload.valid.device, dtype=torch.float32)
        self.decode_kept_into(payload, keep, ctx, n, out)
        return out

    def decode_kept_into(self, payload: Payload, keep: Tensor | None, ctx: Context, n: int, out: Tensor) -> None:
        """`decode_kept` written into `out`."""
        bits, spoken, scales = payload["bits"], self.spoken(payload, keep, ctx, n), self.scales(payload, ctx)
        if spoken is None:
            kernels.unpack_signs(bits, n, scales, out)
        else:
            kernels.unpack_kept(bits, spoken, n, scales, out)

    def scales(self, payload: Payload, ctx: Context) -> Tensor:
        """The scale of each block; zero where it abstained."""
        scale = self.constant(ctx)
        scale = payload["scale"][..., 0] if scale is None else scale
        return torch.where(payload.valid, scale, 0.0).float()

    def constant(self, ctx: Context) -> Tensor | None:
        """The scale of each sender, shaped like `ctx.sender`; None if it depends on the input."""
        if isinstance(self.scale, str):
            return None
        return evaluate(1.0 if self.scale is None else self.scale, ctx)

    def spoken(self, payload: Payload, keep: Tensor | None, ctx: Context, n: int) -> Tensor | None:
        """Words that mark the coordinates a ballot speaks on; None: all."""
        still = payload.planes.get("still")
        marked = kernels.outside_units(still, n, ctx.units) if still is not None and any_set(still) else None
        words = [w for w in (keep, payload.planes.get("nonzero"), marked) if w is not None]
        return reduce(torch.bitwise_and, words) if words else None


def any_set(words: Tensor) -> bool:
    """Whether any bit may be set: a card is not asked, as the answer would be waited for.

    Of a few words numpy says it in a third of the time.
    """
    return not words.is_cpu or bool(words.numpy().any())


SAMPLES = (
    Sign(),
    Sign(zero="positive"),
    Sign(zero="abstain"),
    Sign(0.5),
    Sign(Step(0.25, (2,), (2.0,)), "abstain"),
    Sign("l1"),
    Sign("l1", "abstain"),
    Sign(still=True),
    Sign(0.5, "positive", still=True),
    Sign(zero="abstain", still=True),
    Sign("l1", still=True),
)
