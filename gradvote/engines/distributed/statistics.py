"""Running statistics of normalisation layers, averaged over ranks that see different data."""

import inspect
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gradvote import kernels
from gradvote.staging import asked, to_host

OWN_BUFFERS: dict[str, Any] = {
    name: False
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
}
if len(OWN_BUFFERS) > 1:  # torch 2.13 has a new name for it, and warns of the old one
    del OWN_BUFFERS["broadcast_buffers"]
"""For `DistributedDataParallel(model, **OWN_BUFFERS)`: running statistics stay each rank's own, by the name that the
installed torch has for it."""


@torch.no_grad()
def average_statistics(module: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Replace every floating-point buffer by its mean over the ranks; all ranks must call it.

    A rank whose statistics are not finite does not count; where none is finite, each keeps its own. What is alike on
    all ranks (tables, constants) and counters (integer buffers) stay as they are, to the bit. One all-gather in
    float32, or float64 where a buffer is; the same result on every rank.
    """
    buffers = [b for b in module.buffers() if b.is_floating_point()]
    if not buffers:
        return
    dtype = torch.float64 if any(b.dtype == torch.float64 for b in buffers) else torch.float32
    own = torch.cat([b.flatten().to(dtype) for b in buffers])
    own = own if dist.get_backend(group) == "nccl" else to_host([own])[0]  # gloo gathers on the host only
    everyone = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, own, group=group)
    start = 0
    for buffer in buffers:
        rows = torch.stack([x[start : start + buffer.numel()] for x in everyone])
        start += buffer.numel()
        if not asked((rows == rows[:1]).all()):
            _set(buffer, kernels.mean(rows, kernels.finite(rows)))


def _set(buffer: Tensor, mean: Tensor) -> None:
    if asked(mean.isfinite().all()):
        buffer.copy_(mean.view_as(buffer))
