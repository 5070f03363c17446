"""An algorithm on functions given by their gradients, all workers at once, without bytes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gradvote.core import Algorithm, Context

Gradients = Callable[[Tensor, int], Tensor]
"""(x, step) -> the workers' gradients (M, B, n) at x (B, n)."""


def play(
    algorithm: Algorithm, gradients: Gradients, start: Tensor, rate: float | Callable[[int], float], steps: int
) -> Iterator[Tensor]:
    """The iterates x_1, x_2, … of x ← x − η·direction from `start` (B, n); x keeps its dtype."""
    x = start
    num_workers = len(gradients(x, 0))
    worker = algorithm.up.init(torch.zeros((num_workers, *x.shape), dtype=x.dtype))
    server = algorithm.down.init(torch.zeros_like(x))
    blocks, senders = torch.arange(len(x)), torch.arange(num_workers)[:, None]
    for step in range(steps):
        lr = rate(step) if callable(rate) else rate
        ctx = Context(5, step, blocks, senders, lr)
        ballots, worker = algorithm.encode(gradients(x, step), worker, ctx)
        decision, server = algorithm.combine(ballots, server, ctx, x.shape[-1])
        direction, worker = algorithm.decode(decision, worker, ctx, x.shape[-1])
        x = x - lr * direction.to(x.dtype)
        yield x
