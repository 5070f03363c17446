"""Engines that take the optimizer's step themselves, and refuse another one beside it."""

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from gradvote.engines.common.directions import holds_direction

STEPPING = "_gradvote_stepping"
"""The attribute of an optimizer that says whether an engine takes its step just now."""


class OwnStep:
    """`take()` lets all optimizers step; a step that the script takes by itself would apply a direction twice."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = tuple(optimizers)
        for optimizer in self._optimizers:
            optimizer.register_step_pre_hook(_look)

    def take(self) -> None:
        """One step of each."""
        for optimizer in self._optimizers:
            setattr(optimizer, STEPPING, True)
            try:
                optimizer.step()
            finally:
                setattr(optimizer, STEPPING, False)


def _look(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    params = (p for group in optimizer.param_groups for p in group["params"])
    if not getattr(optimizer, STEPPING, False) and any(holds_direction(p) for p in params):
        raise RuntimeError(
            f"{type(optimizer).__name__}.step() was called beside the vote: vote.step() takes the optimizer's step "
            "itself, at the learning rates that were agreed on, so this one would be a second one. Leave it out "
            "(and GradScaler.step and update: pass scaler= to attach)."
        )
