"""Error memory that forgets: what was not sent fades from step to step."""

from dataclasses import dataclass

from torch import Tensor

from gradvote import kernels
from gradvote.codecs.error_feedback import ErrorFeedback, rate_of, ratio_of
from gradvote.codecs.sign import Sign
from gradvote.codecs.top_k import TopK
from gradvote.core import Context, Payload, State


@dataclass(frozen=True)
class DecayingFeedback(ErrorFeedback):
    """p = x + β(η_{t−1}/η_t)·e; send C(p); e ← p − decode(C(p)), with β = `decay`. Bits as of the inner codec.

    With β = 1 it is `ErrorFeedback`. Of what is unsent the share β is still to come: (1 − β)·e is given up in each step
    in which the block is sent.
    """

    decay: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"The share of a memory that is kept must lie in [0, 1]; got {self.decay}.")

    @property
    def keeps(self) -> float:
        return self.decay

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        lr, memory = rate_of(ctx, state), state["memory"]
        if self.track_lr:
            memory = memory * ratio_of(state["lr"], lr)[..., None]
        p = kernels.bounded(x) + memory * self.decay
        payload, inner = self.codec.encode(p, state["inner"], ctx)
        sent = self.codec.decode(payload, ctx, x.shape[-1])
        return payload, self.written(state, payload.valid, p - sent, lr, inner)


SAMPLES = (DecayingFeedback(TopK(0.25)), DecayingFeedback(Sign("l1"), decay=0.5), DecayingFeedback(TopK(), False, 0.9))
