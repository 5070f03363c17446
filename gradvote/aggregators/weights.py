"""Configured weights of workers."""

import math

import torch
from torch import Tensor

from gradvote.core import Context
from gradvote.fitting import check_types
from gradvote.staging import CPU, to_device


def check_weights(weights: tuple[float, ...] | None) -> None:
    """Weights must be finite, not negative and not all zero."""
    if weights is None:
        return
    if not weights or any(not math.isfinite(w) or w < 0 for w in weights) or sum(weights) == 0:
        raise ValueError(f"Weights must be finite, not negative and not all zero, one for each worker; got {weights}.")


@check_types
def capped(weights: tuple[float, ...], cap: float) -> tuple[float, ...]:
    """Shares of the total, none above `cap`: what is cut off one worker goes to the others in proportion.

    Below 1/2 no worker alone decides a vote. `cap` must be at least 1/M.
    """
    check_weights(weights)
    if not 1 / len(weights) <= cap <= 1:
        raise ValueError(f"A cap for {len(weights)} weights must lie in [1/{len(weights)}, 1]; got {cap}.")
    shares = [w / sum(weights) for w in weights]
    at_cap: set[int] = set()
    while True:
        free = [i for i in range(len(shares)) if i not in at_cap]
        mass = sum(weights[i] for i in free)
        rest = 1 - cap * len(at_cap)
        for i in free:
            shares[i] = rest * weights[i] / mass if mass else rest / len(free)
        over = {i for i in free if shares[i] > cap * (1 + 1e-12)}
        if not over:
            return tuple(shares)
        at_cap |= over
        for i in over:
            shares[i] = cap


def weights_of(weights: tuple[float, ...] | None, ctx: Context) -> Tensor | None:
    """The weights (M,) of the senders of `ctx`, or None for equal ones."""
    if weights is None:
        return None
    sender = torch.as_tensor(ctx.sender, device=CPU).flatten()
    if int(sender.max()) >= len(weights):
        raise ValueError(
            f"There are {len(weights)} weights, but a worker {int(sender.max())}; give one weight for each worker."
        )
    return to_device(torch.tensor(weights, dtype=torch.float32, device=CPU)[sender], ctx.block.device)
