"""What torch.optim does not have, and which optimizer of its own goes behind a vote."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from gradvote.core import Algorithm
from gradvote.theory.learning_rates import suggest_lr

DECOUPLED = ("AdamW", "AdamW8bit", "Lion", "Lion8bit")
"""Optimizers, of torch or of that name elsewhere, whose decay does not go through averages of squares."""


def sgd_for(optimizer: Optimizer, algorithm: Algorithm, *, max_norm: float | None = None) -> SGD:
    """The `torch.optim.SGD` that applies the algorithm's directions in place of `optimizer`, which is only read.

        optimizer = gradvote.optim.sgd_for(torch.optim.AdamW(groups, lr=3e-4), gradvote.algorithms.signum())

    It has the same parameters in the same groups, at the rates of `gradvote.suggest_lr` (which says when gradients and
    `max_norm` are needed), without momentum, and with a decay that takes as much from the weights in each step as
    before: λη/(new rate). Make schedulers for it; those of `optimizer` go on with that one.

    Raises:
        ValueError: as `suggest_lr`; or the decay is a part of Adam's averages, so that no SGD has it.
    """
    found = suggest_lr(optimizer, algorithm, max_norm=max_norm)
    rates: list[float] = found if isinstance(found, list) else [found]
    groups = [
        {
            "params": group["params"],
            "lr": rate,
            "weight_decay": _decayed(optimizer, group) / rate if rate else 0.0,
            "maximize": group.get("maximize", False),
        }
        for group, rate in zip(optimizer.param_groups, rates, strict=True)
    ]
    return SGD(groups, lr=max(rates))


def _decayed(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """The share of a weight that the decay takes in one step, in the long run."""
    decay, lr = float(group.get("weight_decay", 0.0)), float(group.get("initial_lr", group["lr"]))
    if "momentum" in group:  # SGD: decay gathers in it as gradients do
        mu = float(group["momentum"])
        return decay * lr * (1 - (float(group.get("dampening", 0.0)) if mu else 0.0)) / (1 - mu)
    if decay and not _is_decoupled(optimizer, group):
        raise ValueError(
            f"{type(optimizer).__name__}'s weight_decay={decay:g} goes through its averages, and no SGD has such a "
            "decay. Give sgd_for an AdamW over the same groups, or set their weight_decay to 0."
        )
    return decay * lr


def _is_decoupled(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    inner = getattr(optimizer, "optimizer", getattr(optimizer, "optim", None))
    if isinstance(inner, Optimizer):  # a wrapper: Accelerate's, ZeroRedundancyOptimizer
        return _is_decoupled(inner, group)
    told = group.get("decoupled_weight_decay", getattr(optimizer, "adam_w_mode", False))
    return bool(told) or any(cls.__name__ in DECOUPLED for cls in type(optimizer).__mro__)


class NesterovDecay(Optimizer):
    """x ← x − η(Δ + μw + λx) with w ← μw + λx: weight decay with a local Nesterov momentum of its own.

    Zheng, Huang, Kwok 2019, Algorithm 1: Δ, the decision, is in `grad`; the decay is never sent. λ = 0 is plain SGD.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        if not lr >= 0 or not weight_decay >= 0 or not 0 <= momentum < 1:
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
