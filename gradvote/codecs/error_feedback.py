"""Error memory: what was not sent is added to the next input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs.dense import Dense
from gradvote.codecs.fusion import encode_fused, fuses
from gradvote.codecs.masked import Masked
from gradvote.codecs.sign import Sign
from gradvote.core import Aggregator, Codec, Context, Payload, Plane, State
from gradvote.kernels import Inertia

LEAST = 1e-37
"""A learning rate above this is not zero as a float32."""


@dataclass(frozen=True)
class ErrorFeedback(Codec):
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
        return {"memory": memory, "lr": memory.new_zeros(like.shape[:-1]), "inner": self.codec.init(like)}

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        return self.codec.planes(n, ctx)

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        if fuses(self.codec, x, state["memory"]):
            payload, state, _ = self.encode_moving(x, None, state, ctx)
            return payload, state
        lr, memory = _rate(ctx, state), state["memory"]
        if self.track_lr:
            memory = memory * _ratio(state["lr"], lr)[..., None]
        p = kernels.bounded(x) + memory
        payload, inner = self.codec.encode(p, state["inner"], ctx)
        sent = self.codec.decode(payload, ctx, x.shape[-1])
        return payload, self._written(state, payload.valid, p - sent, lr, inner)

    def encode_moving(
        self, x: Tensor, inertia: Inertia | None, state: State, ctx: Context
    ) -> tuple[Payload, State, Tensor | None]:
        """`encode` of the momentum of x in one pass, and the new momentum; for what `fuses` only."""
        lr = _rate(ctx, state)
        ratio = _ratio(state["lr"], lr) if self.track_lr else torch.ones_like(lr)
        payload, step = encode_fused(self.codec, x, state["memory"], ratio, inertia, ctx)
        settled = not self.track_lr or (not isinstance(ctx.lr, Tensor) and ctx.lr > LEAST)
        return payload, self._written(state, step.valid, step.memory, lr, state["inner"], settled), step.momentum

    def _written(
        self, state: State, valid: Tensor, memory: Tensor, lr: Tensor, inner: State, settled: bool = False
    ) -> State:
        """The new state. `settled`: what is given is the old memory already, in every block that keeps it."""
        written = valid & (lr > 0) if self.track_lr else valid
        if not written.is_cpu or not bool(written.all()):  # a card is not asked: the answer would be waited for
            memory = memory if settled else torch.where(written[..., None], memory, state["memory"])
            lr = torch.where(written, lr, state["lr"])
        return {"memory": memory, "lr": lr, "inner": inner}

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return self.codec.decode(payload, ctx, n)

    def decode_into(self, payload: Payload, ctx: Context, n: int, out: Tensor) -> None:
        self.codec.decode_into(payload, ctx, n, out)

    def check(self, payload: Payload, n: int) -> Payload:
        return self.codec.check(payload, n)

    def reduce(self, payload: Payload, aggregator: Aggregator, ctx: Context, n: int) -> Tensor:
        return self.codec.reduce(payload, aggregator, ctx, n)

    def elect(self, payload: Payload, aggregator: Aggregator, down: Codec, ctx: Context, n: int) -> Payload | None:
        return self.codec.elect(payload, aggregator, down, ctx, n)

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        inner = self.codec.undelivered(state["inner"], payload, ctx, n)
        sent = self.codec.decode(payload, ctx, n)
        if self.track_lr:
            sent = torch.where((_rate(ctx, state) > 0)[..., None], sent, 0.0)
        return {**state, "memory": state["memory"] + sent, "inner": inner}

    def unsent(self, state: State) -> Tensor:
        memory: Tensor = state["memory"]
        return memory

    def mirrored(self, state: State) -> Tensor | None:
        return self.codec.mirrored(state["inner"])

    def merge(self, own: State, other: State) -> State:
        """e_own + (η_other/η_own)·e_other; without `track_lr` the plain sum."""
        taken = other["memory"]
        if self.track_lr:
            taken = taken * _ratio(other["lr"], own["lr"])[..., None]
        lr = torch.where(own["lr"] > 0, own["lr"], other["lr"])
        return {"memory": own["memory"] + taken, "lr": lr, "inner": self.codec.merge(own["inner"], other["inner"])}

    @property
    def reports(self) -> bool:
        return self.codec.reports

    def agree(self, reports: Tensor, valid: Tensor) -> Tensor:
        return self.codec.agree(reports, valid)

    def learn(self, state: State, agreed: Tensor) -> State:
        return {**state, "inner": self.codec.learn(state["inner"], agreed)}


def _rate(ctx: Context, state: State) -> Tensor:
    """The rate of this step for each block, rounded to float32, in memory of its own and of the state's type."""
    memory_lr: Tensor = state["lr"]
    if isinstance(ctx.lr, Tensor):
        return torch.empty_like(memory_lr).copy_(ctx.lr.float())
    return torch.full_like(memory_lr, ctx.lr, dtype=torch.float32).to(memory_lr.dtype)


def _ratio(written: Tensor, now: Tensor) -> Tensor:
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
