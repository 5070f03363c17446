"""Error memory: what was not sent is added to the next input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs.dense import Dense
from gradvote.codecs.masked import Masked
from gradvote.codecs.sign import Sign
from gradvote.codecs.wrapper import WrapperCodec
from gradvote.core import Codec, Context, Payload, State, shortcut


@dataclass(frozen=True)
class ErrorFeedback(WrapperCodec):
    """p = x + (η_{t−1}/η_t)·e; send C(p); e ← p − decode(C(p)). Bits as of the inner codec.

    Seide et al. 2014; Karimireddy et al. 2019, Algorithm 1 (there η is inside the memory: with `track_lr` the same up
    to rounding); Zheng et al. 2019, Algorithm 1. The memory is in gradient units and holds the learning rate at which
    it was written; at a zero rate, where nothing reaches the model, the memory stays as it is. `track_lr=False` knows
    no rates. A block that abstains keeps its memory; it does where its input holds a magnitude of 2⁶⁴ or more
    (`kernels.bounded`).
    """

    codec: Codec
    track_lr: bool = True

    def init(self, like: Tensor) -> State:
        memory = torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
        return {"memory": memory, "lr": memory.new_zeros(like.shape[:-1]), **super().init(like)}

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        short: tuple[Payload, State] | None = shortcut("encode", (self, self.codec), x, state, ctx)
        if short is not None:
            return short
        lr, memory = rate_of(ctx, state), state["memory"]
        if self.track_lr:
            memory = memory * ratio_of(state["lr"], lr)[..., None]
        p = kernels.bounded(x) + memory
        payload, inner = self.codec.encode(p, state["inner"], ctx)
        sent = self.codec.decode(payload, ctx, x.shape[-1])
        return payload, self.written(state, payload.valid, p - sent, lr, inner)

    def written(
        self, state: State, valid: Tensor, memory: Tensor, lr: Tensor, inner: State, settled: bool = False
    ) -> State:
        """The new state. `settled`: what is given is the old memory already, in every block that keeps it."""
        written = valid & (lr > 0) if self.track_lr else valid
        if not written.is_cpu or not bool(written.all()):  # a card is not asked: the answer would be waited for
            memory = memory if settled else torch.where(written[..., None], memory, state["memory"])
            lr = torch.where(written, lr, state["lr"])
        return {"memory": memory, "lr": lr, "inner": inner}

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        state = super().undelivered(state, payload, ctx, n)
        sent = self.codec.decode(payload, ctx, n)
        if self.track_lr:
            sent = torch.where((rate_of(ctx, state) > 0)[..., None], sent, 0.0)
        return {**state, "memory": state["memory"] + sent}

    def unsent(self, state: State) -> Tensor:
        memory: Tensor = state["memory"]
        return memory

    def merge(self, own: State, other: State) -> State:
        """e_own + (η_other/η_own)·e_other; without `track_lr` the plain sum."""
        taken = other["memory"]
        if self.track_lr:
            taken = taken * ratio_of(other["lr"], own["lr"])[..., None]
        lr = torch.where(own["lr"] > 0, own["lr"], other["lr"])
        return {**super().merge(own, other), "memory": own["memory"] + taken, "lr": lr}


def rate_of(ctx: Context, state: State) -> Tensor:
    """The rate of this step for each block, rounded to float32, in memory of its own and of the state's type."""
    memory_lr: Tensor = state["lr"]
    if isinstance(ctx.lr, Tensor):
        return torch.empty_like(memory_lr).copy_(ctx.lr.float())
    return torch.full_like(memory_lr, ctx.lr, dtype=torch.float32).to(memory_lr.dtype)


def ratio_of(written: Tensor, now: Tensor) -> Tensor:
    """η_{t−1}/η_t of each block; 1 where either is zero."""
    if written.is_cpu and torch.equal(written, now):
        return torch.ones_like(now)
    usable = (written > 0) & (now > 0)
    return torch.where(usable, written / torch.where(usable, now, 1.0), 1.0)


SAMPLES = (
    ErrorFeedback(Sign("l1")),
    ErrorFeedback(Masked(0.3, Sign(0.05)), track_lr=False),
    ErrorFeedback(Dense("bfloat16")),
    ErrorFeedback(Sign(still=True)),
)
