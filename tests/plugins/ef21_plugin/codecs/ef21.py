"""EF21's memories: an estimate of the gradient that worker and server both keep.

Richtárik, Sokolov, Fatkhullin, "EF21: a new, simpler, theoretically better, and practically faster error feedback",
NeurIPS 2021, Algorithm 2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs import Dense, Sign
from gradvote.core import Codec, Context, Payload, Plane, State


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))


@dataclass(frozen=True)
class Estimate(Codec):
    """Send c = C(x − g); g ← g + decode(c). The receiver adds up what arrives, and so has g."""

    codec: Codec

    def init(self, like: Tensor) -> State:
        return {"estimate": _zeros(like), "inner": self.codec.init(like)}

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        return self.codec.planes(n, ctx)

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        before = state["estimate"]
        payload, inner = self.codec.encode(kernels.bounded(x) - before, state["inner"], ctx)
        after = before + self.codec.decode(payload, ctx, x.shape[-1])
        return payload, {"estimate": after.where(payload.valid[..., None], before), "inner": inner}

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return self.codec.decode(payload, ctx, n)

    def check(self, payload: Payload, n: int) -> Payload:
        return self.codec.check(payload, n)

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        inner = self.codec.undelivered(state["inner"], payload, ctx, n)
        return {"estimate": state["estimate"] - self.codec.decode(payload, ctx, n), "inner": inner}

    def mirrored(self, state: State) -> Tensor:
        estimate: Tensor = state["estimate"]
        return estimate


@dataclass(frozen=True)
class Accumulated(Codec):
    """Send the sum of all that was put in, in units of `share`: the server's half."""

    codec: Codec
    share: float = 1.0

    def init(self, like: Tensor) -> State:
        return {"sum": _zeros(like), "inner": self.codec.init(like)}

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        return self.codec.planes(n, ctx)

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        total = state["sum"] + x * self.share
        payload, inner = self.codec.encode(total, state["inner"], ctx)
        return payload, {"sum": total.where(payload.valid[..., None], state["sum"]), "inner": inner}

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return self.codec.decode(payload, ctx, n)

    def check(self, payload: Payload, n: int) -> Payload:
        return self.codec.check(payload, n)


SAMPLES = (Estimate(Sign("l1")), Estimate(Dense("bfloat16")), Accumulated(Dense()), Accumulated(Dense(), 0.25))
