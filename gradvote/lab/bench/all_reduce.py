"""What DDP users have without us: all-reduces in float32, bfloat16 and float16, and PowerSGD of rank 1."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power
from torch.nn.parallel import DistributedDataParallel

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
RIVALS = ("fp32", *HALVES, "power-sgd")
START = 2
"""The step from which on PowerSGD compresses; the least that torch allows with error memory."""

Contestant = tuple[Callable[[], None], Callable[[], int], Callable[[], Tensor], Callable[[Tensor], object]]
"""One step from the rank's own gradient; the bytes sent so far, as far as they follow from sizes; the result (d,); what
puts a gradient there before a step."""


def rival(name: str, own: Tensor) -> Contestant:
    """A rival for the gradient `own` (d,), which stays as it is."""
    return _power_sgd(own) if name == "power-sgd" else _all_reduce(name, own)


def _all_reduce(name: str, own: Tensor) -> Contestant:
    """As DDP and its compression hooks do it: in place where the type is the gradient's."""
    dtype, calls, ranks = HALVES.get(name, torch.float32), [0], dist.get_world_size()
    result = own.clone()

    def step() -> None:
        calls[0] += 1
        if name == "fp32":
            result.div_(ranks)
            dist.all_reduce(result)
        else:
            small = result.to(dtype).div_(ranks)
            dist.all_reduce(small)
            result.copy_(small)

    def sent() -> int:
        return calls[0] * 2 * (ranks - 1) * own.numel() * dtype.itemsize // ranks

    return step, sent, lambda: result, result.copy_


def _power_sgd(own: Tensor) -> Contestant:
    """torch's hook for one weight of nearly square shape: r(m + n) numbers travel for m·n. One bucket, or it hangs."""
    rows = int(own.numel() ** 0.5)
    square = own[: rows * (own.numel() // rows)].view(rows, -1)
    model = _Linear(square)
    ddp = DistributedDataParallel(model, bucket_cap_mb=1 + own.numel() // 2**18, gradient_as_bucket_view=True)
    state = power.PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=START)
    ddp.register_comm_hook(state, power.powerSGD_hook)
    calls, ranks = [0], dist.get_world_size()

    def step() -> None:
        calls[0] += 1
        model.weight.grad = None
        ddp().backward()

    def sent() -> int:
        plain = min(calls[0], START) * own.numel()
        return 2 * (ranks - 1) * 4 * (plain + max(calls[0] - START, 0) * sum(square.shape)) // ranks

    return step, sent, lambda: _gradient_of(model.weight), lambda gradient: None


class _Linear(nn.Module):
    """A loss whose gradient is given."""

    def __init__(self, gradient: Tensor) -> None:
        super().__init__()
        self.weight, self._gradient = nn.Parameter(torch.zeros_like(gradient)), gradient.flatten()

    def forward(self) -> Tensor:
        return self.weight.view(-1) @ self._gradient


def _gradient_of(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad.view(-1)
