"""A memory as another package may write it: keys of its own, and η inside."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.codecs import Sign, chain
from gradvote.core import Aggregator, Algorithm, Codec, Context, Payload, Plane, State
from gradvote.transforms import Ema


@dataclass(frozen=True)
class Leftovers(Codec):
    """p = η·x + r; send C(p/η); r ← p − η·decode(C(p/η)): in the parameters' units, so that two simply add up."""

    codec: Codec

    def init(self, like: Tensor) -> State:
        return {"leftover": torch.zeros_like(like), "about": {"rate": like.new_zeros(like.shape[:-1])}}

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        return self.codec.planes(n, ctx)

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        lr = torch.full(state["about"]["rate"].shape, float(ctx.lr))
        p = x * lr[..., None] + state["leftover"]
        payload, _ = self.codec.encode(p / lr[..., None], {}, ctx)
        left = p - self.codec.decode(payload, ctx, x.shape[-1]) * lr[..., None]
        return payload, {
            "leftover": torch.where(payload.valid[..., None], left, state["leftover"]),
            "about": {"rate": torch.where(payload.valid, lr, state["about"]["rate"])},
        }

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return self.codec.decode(payload, ctx, n)

    def reduce(self, payload: Payload, aggregator: Aggregator, ctx: Context, n: int) -> Tensor:
        return self.codec.reduce(payload, aggregator, ctx, n)

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        return {**state, "leftover": state["leftover"] + self.codec.decode(payload, ctx, n) * ctx.lr}

    def unsent(self, state: State) -> Tensor:
        rate = state["about"]["rate"]
        found: Tensor = state["leftover"] / torch.where(rate > 0, rate, 1.0)[..., None]
        return found

    def merge(self, own: State, other: State) -> State:
        mine, theirs = own["about"]["rate"], other["about"]["rate"]
        rate = torch.where(mine > 0, mine, theirs)
        return {"leftover": own["leftover"] + other["leftover"], "about": {"rate": rate}}


def with_leftovers() -> Algorithm:
    """A mean of scaled signs behind an average and this memory."""
    return replace(algorithms.dist_ef_sgdm(), up=chain(Ema(0.5), Leftovers(Sign("l1"))), block_size=64)
