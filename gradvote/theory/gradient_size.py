"""How large the gradients are that an optimizer is about to apply."""

import math
import os
import warnings
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from gradvote.staging import CPU

COMPANY = ("GRADVOTE_WORKERS", "TORCHFT_LIGHTHOUSE")
"""What `gradvote launch` and torchft set for workers that have no process group in common."""


def gradient_rms(optimizer: Optimizer, max_norm: float | None = None) -> float:
    """√(mean g²) over all parameters with a gradient, and over the ranks of torch.distributed where it runs.

    With `max_norm` of gradients that are clipped to it, each rank's by itself; the optimizer's own stay as they are.

    Raises:
        ValueError: there is no gradient, or it is zero, not finite, or a direction of a vote already.
    """
    gradients = [
        p.grad.detach().to_dense() for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    count = sum(g.numel() for g in gradients)
    found = torch.zeros(3, dtype=torch.float32, device=CPU)
    if count:
        found[0] = 1
        square = sum(float(g.double().square().sum()) for g in gradients)
        found[1] = (square if max_norm is None else min(square, max_norm**2)) / count
        found[2] = _are_directions(gradients)
    if not (dist.is_available() and dist.is_initialized()):
        _warn_of_others()
    elif dist.get_world_size() > 1:
        found = found.to(gradients[0].device if gradients else optimizer.param_groups[0]["params"][0].device)
        dist.all_reduce(found)
    with_gradients, total, directions = found.tolist()
    mean = total / with_gradients if with_gradients else 0.0
    if directions or not (math.isfinite(mean) and mean > 0):
        raise ValueError(_why(with_gradients, mean, directions))
    return math.sqrt(mean)


def _are_directions(gradients: Sequence[Tensor]) -> bool:
    """Whether every tensor holds one size only, as what a vote or scaled signs have left does."""
    sizes = [g[g != 0].abs() for g in gradients if g.numel() > 1]
    sizes = [size for size in sizes if size.numel() > 1]
    return bool(sizes) and all(bool((size == size[0]).all()) for size in sizes)


def _warn_of_others() -> None:
    """Of several processes without a common group (elastic, torchft, before `init_process_group`) each sees its own."""
    several = next((name for name in COMPANY if os.environ.get(name)), None)
    if several is None and os.environ.get("WORLD_SIZE", "1").strip() not in {"", "0", "1"}:
        several = "WORLD_SIZE"
    if several:
        warnings.warn(
            f"This rate depends on the size of the gradients, and this process, one of several as {several} says, sees "
            "only its own, as torch.distributed does not run here. With another rate on another worker the models "
            "would part without an error: compute it from the same batch on all, or once, and write the number into "
            "your script.",
            stacklevel=4,
        )


def _why(with_gradients: float, mean: float, directions: float) -> str:
    """The sentence for gradients that say nothing about a rate."""
    if not with_gradients:
        problem = "no parameter of the optimizer has one"
    elif directions:
        problem = "these are directions of a vote already, all of one size"
    else:
        problem = "these are all zero" if mean == 0 else "these are not finite"
    return (
        f"This rate depends on the size of the gradients, and {problem}. Call loss.backward() on one batch of one "
        "worker first, before a vote is attached (under a GradScaler also unscale_), and then suggest_lr."
    )
