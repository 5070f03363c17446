"""The ways of simulated workers after several steps of their own, one worker after another as in `gradients.loop`.

What `gradvote.local_steps` does on real workers, bit for bit, for a `Simulation`.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from gradvote.engines.common.ways import MIX, forget_spoilt, join, ways_between
from gradvote.engines.gradients import Batches, own_randomness, trainable, worker_seed
from gradvote.layout import Layout
from gradvote.staging import device_of


class LocalWorkers:
    """M workers with an optimizer each, which `make` makes of parameters; one model is the working copy of them all.

    `pseudo_gradients` takes them from the model's parameters through the batches of a round, and leaves these as they
    are; buffers that a forward pass changes (BatchNorm's running statistics) are the model's, as one worker after
    another leaves them. With a `delay` of τ steps a worker goes on
    from where it was for as long, and only then learns of the model's parameters, of which it takes 1 − `mix`.
    """

    def __init__(
        self,
        model: nn.Module,
        make: Callable[[list[nn.Parameter]], Optimizer],
        num_workers: int,
        layout: Layout,
        delay: int = 0,
        mix: float = MIX,
    ) -> None:
        self.model, self._own, self._layout = model, deepcopy(model), layout
        self._delay, self._mix = delay, mix
        self._starts, self._nows = trainable(model), trainable(self._own)
        self.optimizers = [make(self._nows) for _ in range(num_workers)]
        self._left: list[list[Tensor]] = [[] for _ in range(num_workers)]  # where each ended a round, with a delay

    def pseudo_gradients(self, rounds: Sequence[Batches], seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Losses (M,), means over the steps, and start − now (M, d); `rounds[k]` are the batches of the k-th step.

        Dropout and the like draw from (seed, step·H + k, worker). A parameter that has not moved abstains: NaN.
        """
        device, num = device_of(self._starts), len(self.optimizers)
        losses = torch.zeros(num, device=device, dtype=torch.float32)
        flat = torch.empty(num, self._layout.size, device=device, dtype=torch.float32)
        _copy_buffers(self.model, self._own)
        with own_randomness(device) as begin:
            for i, optimizer in enumerate(self.optimizers):
                self._begin(i)
                for k, batches in enumerate(rounds):
                    begin(worker_seed(seed, step * len(rounds) + k, i))
                    losses[i] += self._step(optimizer, *batches[i]) / len(rounds)
                    if k + 1 == self._delay and self._left[i]:
                        self._join(optimizer)
                self._layout.flatten(self._way(optimizer), out=flat[i])
                if self._delay:
                    self._left[i] = [now.detach().clone() for now in self._nows]
        _copy_buffers(self._own, self.model)
        return losses, flat

    def set_lr(self, lr: float) -> None:
        """The rate of all workers' own optimizers."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """The workers' own states."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "left": self._left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        left = state.get("left", [[] for _ in self.optimizers])
        self._left = [[row.clone() for row in rows] for rows in left]

    @torch.no_grad()
    def _begin(self, worker: int) -> None:
        for now, start in zip(self._nows, self._left[worker] or self._starts, strict=True):
            now.copy_(start)

    def _join(self, optimizer: Optimizer) -> None:
        for now, start in zip(self._nows, self._starts, strict=True):
            if join(now, start, self._mix):
                forget_spoilt([optimizer], now)

    def _step(self, optimizer: Optimizer, x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(self._own(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def _way(self, optimizer: Optimizer) -> list[Tensor]:
        ways, spoilt = ways_between(self._starts, self._nows)
        for i in spoilt:
            forget_spoilt([optimizer], self._nows[i])
        return [torch.full_like(p, torch.nan) if w is None else w for p, w in zip(self._nows, ways, strict=True)]


@torch.no_grad()
def _copy_buffers(source: nn.Module, to: nn.Module) -> None:
    for value, buffer in zip(source.buffers(), to.buffers(), strict=True):
        buffer.copy_(value)
