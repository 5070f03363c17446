"""Loss scaling: votes are on true gradients, and after an overflow all ranks take the step or none does."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer

from gradvote.engines.common.arguments import in_words


class Scaling:
    """The user's `torch.amp.GradScaler`; a disabled one is none."""

    def __init__(self, scaler: GradScaler | None, optimizers: Sequence[Optimizer]) -> None:
        if scaler is not None and not isinstance(scaler, GradScaler):
            raise TypeError(f"scaler= takes a torch.amp.GradScaler; got {in_words(scaler)}.")
        self._scaler, self._optimizers = scaler, tuple(optimizers)

    @property
    def active(self) -> bool:
        """Whether losses are scaled."""
        return self._scaler is not None and self._scaler.is_enabled()

    @property
    def divides(self) -> bool:
        """Whether the scaler will divide directions: `unscale_` has not been called for all optimizers yet."""
        return self.active and not all(self._inf_checks(optimizer) for optimizer in self._optimizers or (None,))

    def scale(self) -> float:
        """What the gradients of now are multiplied by.

        Raises:
            ValueError: `unscale_` was called for some of the optimizers only.
        """
        if self._scaler is None or not self.divides:
            return 1.0
        if any(self._inf_checks(optimizer) for optimizer in self._optimizers):
            raise ValueError(
                "scaler.unscale_ was called for some of the optimizers only, so their gradients have different units. "
                "Call it for all of them before the vote, or for none."
            )
        return float(self._scaler.get_scale())

    def settle(self, skipped: bool) -> None:
        """Where `unscale_` came before the vote, let all ranks' scalers know alike whether to take the step.

        Each has recorded the overflows of its own gradients, which the vote has replaced.
        """
        for optimizer in self._optimizers:
            for found in self._inf_checks(optimizer).values():
                found.fill_(float(skipped))

    def unscale(self) -> None:
        """Divide the gradients, where that was not done yet, and record overflows, also where there is no gradient."""
        for optimizer in self._optimizers if self._scaler is not None and self.active else ():
            if not self._inf_checks(optimizer):
                assert self._scaler is not None
                with _some_gradient(optimizer):
                    self._scaler.unscale_(optimizer)

    def update(self) -> None:
        """Grow or shrink the scale by what `unscale` has found, if it has looked."""
        if self._scaler is not None and any(self._inf_checks(optimizer) for optimizer in self._optimizers):
            self._scaler.update()

    def _inf_checks(self, optimizer: Optimizer | None) -> Mapping[Any, Tensor]:
        return {} if self._scaler is None or optimizer is None else _inf_checks(self._scaler, optimizer)


class Strangers:
    """Scalers of this process that nobody has named."""

    def __init__(self) -> None:
        self._asked, self._found = 0, list[GradScaler]()

    def forgive(self, optimizers: Sequence[Optimizer]) -> bool:
        """Take back the overflow that one of them has found in the gradients of these optimizers; whether one had.

        They are looked for among all objects of the process, more and more seldom.
        """
        self._asked += 1
        if self._asked & (self._asked - 1) == 0:
            self._found = [o for o in gc.get_objects() if issubclass(type(o), GradScaler)]
        flags = [found for s in self._found for o in optimizers for found in _inf_checks(s, o).values()]
        guilty = [found for found in flags if bool(found)]
        for found in guilty:
            found.zero_()
        return bool(guilty)


def _inf_checks(scaler: GradScaler, optimizer: Optimizer) -> Mapping[Any, Tensor]:
    """What `unscale_` recorded of an optimizer since the last update, by device; torch has no public name for it."""
    state = getattr(scaler, "_per_optimizer_states", {}).get(id(optimizer), {})
    found: Mapping[Any, Tensor] = state.get("found_inf_per_device", {})
    return found if state.get("stage") is OptState.UNSCALED else {}


@contextmanager
def _some_gradient(optimizer: Optimizer) -> Iterator[None]:
    """An optimizer without any gradient has one of zeros meanwhile: torch asserts that it found something."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    alone = params[0] if params and all(p.grad is None for p in params) else None
    if alone is not None:
        alone.grad = torch.zeros_like(alone)
    yield
    if alone is not None:
        alone.grad = None
