"""EF21's memories: an estimate of the gradient that worker and server both keep.

Richtárik, Sokolov, Fatkhullin, "EF21: a new, simpler, theoretically better, and practically faster error feedback",
NeurIPS 2021, Algorithm 2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs import Dense, Sign, WrapperCodec
from gradvote.core import Codec, Context, Payload, State


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))


@dataclass(frozen=True)
class Estimate(WrapperCodec):
    """Send c = C(x − g); g ← g + decode(c). The receiver adds up what arrives, and so has g."""

    codec: Codec

    def init(self, like: Tensor) -> State:
        return {"estimate": _zeros(like), **super().init(like)}

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        before = state["estimate"]
        payload, inner = self.codec.encode(kernels.bounded(x) - before, state["inner"], ctx)
        after = before + self.codec.decode(payload, ctx, x.shape[-1])
        return payload, {"estimate": after.where(payload.valid[..., None], before), "inner": inner}

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        state = super().undelivered(state, payload, ctx, n)
        return {**state, "estimate": state["estimate"] - self.codec.decode(payload, ctx, n)}

    def mirrored(self, state: State) -> Tensor:
        estimate: Tensor = state["estimate"]
        return estimate


@dataclass(frozen=True)
class Accumulated(WrapperCodec):
    """Send the sum of all that was put in, in units of `share`: the server's half."""

    codec: Codec
    share: float = 1.0

    def init(self, like: Tensor) -> State:
        return {"sum": _zeros(like), **super().init(like)}

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        total = state["sum"] + x * self.share
        payload, inner = self.codec.encode(total, state["inner"], ctx)
        return payload, {"sum": total.where(payload.valid[..., None], state["sum"]), "inner": inner}


SAMPLES = (Estimate(Sign("l1")), Estimate(Dense("bfloat16")), Accumulated(Dense()), Accumulated(Dense(), 0.25))
