"""What torch.optim does not have."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class NesterovDecay(Optimizer):
    """x ← x − η(Δ + μw + λx) with w ← μw + λx: weight decay with a local Nesterov momentum of its own.

    Zheng, Huang, Kwok 2019, Algorithm 1: Δ, the decision, is in `grad`; the decay is never sent. λ = 0 is plain SGD.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1:
            raise ValueError(
                "NesterovDecay needs lr >= 0, weight_decay >= 0 and 0 <= momentum < 1; "
                f"got lr={lr}, weight_decay={weight_decay}, momentum={momentum}."
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(self._direction(p, group["momentum"], group["weight_decay"]) * group["lr"])
        return loss

    def _direction(self, p: Tensor, mu: float, decay: float) -> Tensor:
        assert p.grad is not None
        if decay == 0:
            return p.grad
        w: Tensor = self.state[p].get("momentum", torch.zeros_like(p)) * mu + p * decay
        self.state[p]["momentum"] = w
        return p.grad + w * mu + p * decay
