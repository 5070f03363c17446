"""Error memories of rows of unequal length: momentum, memory and signs of all groups in one pass."""

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs.error_feedback import ErrorFeedback, rate_of, ratio_of
from gradvote.codecs.fast_paths import LEAST, sign_of
from gradvote.codecs.masked import Masked
from gradvote.codecs.row_masks import mask_of
from gradvote.codecs.sign import Sign
from gradvote.core import LEAST_RATE, Context, Payload, State
from gradvote.kernels import Inertia
from gradvote.ragged import Ragged
from gradvote.scattered import Vector


def one_pass(
    memory: ErrorFeedback, x: Vector, inertia: Inertia | None, state: State, ctx: Context, rows: Ragged
) -> tuple[Payload, State, Tensor | None]:
    """The payload of p = momentum(x) + ratio·e, the new memory and momentum."""
    codec, sign = memory.codec, sign_of(memory.codec)
    assert isinstance(sign, Sign)
    lr = rate_of(ctx, state)
    ratio = ratio_of(state["lr"], lr) if memory.track_lr else torch.ones_like(lr)
    keep = mask_of(codec, ctx, rows) if isinstance(codec, Masked) else None
    scale = sign.constant(ctx)
    scale = None if scale is None else scale.float()
    step = kernels.ragged_feedback_step(x, state["memory"], ratio, inertia, keep, sign.zeros(ctx), scale, rows)
    bits = step.bits if keep is None else kernels.ragged_compact(step.bits, keep, rows)
    planes = {"bits": bits} if scale is not None else {"bits": bits, "scale": step.scale}
    settled = not memory.track_lr or _least_rate(ctx) > LEAST
    new = _written(memory, state, (step.valid, step.memory, lr), rows, settled)
    return Payload(step.valid, planes), new, step.momentum


def _written(
    codec: ErrorFeedback, state: State, found: tuple[Tensor, Tensor, Tensor], rows: Ragged, settled: bool
) -> State:
    """`ErrorFeedback.written` with flags and rates (B,), memory (d,)."""
    valid, memory, lr = found
    written = valid & (lr > 0) if codec.track_lr else valid
    if not written.is_cpu or not bool(written.all()):  # a card is not asked: the answer would be waited for
        if not settled:
            memory = torch.where(rows.wide(written), memory, state["memory"])
        lr = torch.where(written, lr, state["lr"])
    return {"memory": memory, "lr": lr, "inner": state["inner"]}


def _least_rate(ctx: Context) -> float:
    """The least rate of a round, or zero where only a card knows it."""
    if not isinstance(ctx.lr, Tensor):
        return ctx.lr
    known = ctx.memo.get(LEAST_RATE)
    return 0.0 if known is None else float(known)
