"""Loss scaling: votes are on true gradients, and after an overflow all ranks take the step or none does."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer

from gradvote.engines.common.arguments import in_words
from gradvote.engines.common.flat_buffer import gradient_dtype
from gradvote.engines.common.owners import live
from gradvote.staging import CPU, to_host

TRUE = "_gradvote_true"
"""The attribute of a gradient's tensor with its version when it had been divided by the scale."""


class Scaling:
    """The user's `torch.amp.GradScaler`; a disabled one is none."""

    def __init__(self, scaler: GradScaler | None, optimizers: Sequence[Optimizer]) -> None:
        if scaler is not None and not isinstance(scaler, GradScaler):
            raise TypeError(f"scaler= takes a torch.amp.GradScaler; got {in_words(scaler)}.")
        self._scaler, self._optimizers = scaler, tuple(optimizers)
        self._found: dict[int, dict[torch.device, Tensor]] = {}  # overflows of the last vote, by optimizer

    @property
    def active(self) -> bool:
        """Whether losses are scaled."""
        return self._scaler is not None and self._scaler.is_enabled()

    @property
    def divides(self) -> bool:
        """Whether the scaler will divide directions: `unscale_` has not been called for all optimizers yet."""
        return self.active and not all(self._unscaled()) if self._unscaled() else self.active

    def scale(self) -> float:
        """What the gradients of now are multiplied by.

        Raises:
            ValueError: `unscale_` was called for some of the optimizers only.
        """
        if self._scaler is None or not self.divides:
            return 1.0
        if any(self._unscaled()):
            raise ValueError(
                "scaler.unscale_ was called for some of the optimizers only, so their gradients have different units. "
                "Call it for all of them before the vote, or for none."
            )
        return float(self._scaler.get_scale())

    def settle(self, skipped: bool) -> None:
        """Where `unscale_` came before the vote, let all ranks' scalers know alike whether to take the step.

        Each has recorded the overflows of its own gradients, which the vote has replaced; one that found no gradient at
        all has recorded nothing, and torch would assert that.
        """
        for state in self._states():
            if _is_unscaled(state):
                flags = state["found_inf_per_device"]
                if not flags:
                    flags[torch.device("cpu")] = torch.zeros((), dtype=torch.float32, device=CPU)
                for found in flags.values():
                    found.fill_(float(skipped))

    def _unscaled(self) -> list[bool]:
        return [_is_unscaled(state) for state in self._states()]

    def _states(self) -> list[dict[str, Any]]:
        """What the scaler knows of each optimizer; of all that it has met since its last update, without any."""
        states = {} if self._scaler is None else _states_of(self._scaler)
        return [states.get(id(o), {}) for o in self._optimizers] if self._optimizers else [*states.values()]

    def unscale(self) -> None:
        """Divide the gradients, where that was not done yet, and note overflows, also where there is no gradient.

        The scaler itself forgets it until `recall`: where no step follows, the next gradients are scaled ones again.
        """
        for number, (optimizer, done) in enumerate(zip(self._optimizers, self._unscaled(), strict=True)):
            if not self.active or (not done and number in self._found and _is_true(optimizer)):
                continue
            assert self._scaler is not None
            if not done:
                with _some_gradient(optimizer):
                    self._scaler.unscale_(optimizer)
            self._found[number] = _states_of(self._scaler).pop(id(optimizer))["found_inf_per_device"]
            for gradient in _gradients(optimizer):
                setattr(gradient, TRUE, gradient._version)

    def recall(self) -> None:
        """A step follows on the last `unscale`: let the scaler know what it had found."""
        for number, found in self._found.items():
            assert self._scaler is not None
            state = {"stage": OptState.UNSCALED, "found_inf_per_device": found}
            _states_of(self._scaler)[id(self._optimizers[number])] = state
        self._found = {}

    def update(self) -> None:
        """Grow or shrink the scale by what `unscale` has found, if it has looked."""
        if (
            self._scaler is not None
            and self.active
            and any(state.get("found_inf_per_device") for state in self._states())
        ):
            self._scaler.update()


class Strangers:
    """Scalers of this process that nobody has named: looked for among all its objects, more and more seldom."""

    def __init__(self) -> None:
        self._asked, self._found = 0, list[GradScaler]()

    def scale(self) -> float | None:
        """The scale of one that is enabled."""
        return next((float(s.get_scale()) for s in self._scalers() if s.is_enabled()), None)

    def forgive(self, params: Sequence[Tensor]) -> bool:
        """Take back the overflow that one of them has found in optimizers of these parameters; whether one had."""
        own, guilty = {id(p) for p in params}, list[Tensor]()
        for scaler in self._scalers():
            flags = {k: s["found_inf_per_device"] for k, s in _states_of(scaler).items() if _is_unscaled(s)}
            if any(bool(f) for found in flags.values() for f in found.values()):
                mine = {
                    id(o) for o in live(Optimizer) if any(id(p) in own for g in o.param_groups for p in g["params"])
                }
                guilty += [f for k, found in flags.items() if k in mine for f in found.values() if bool(f)]
        for found in guilty:
            found.zero_()
        return bool(guilty)

    def _scalers(self) -> list[GradScaler]:
        self._asked += 1
        if self._asked & (self._asked - 1) == 0:
            self._found = live(GradScaler)
        return self._found


def all_finite(gradients: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite: of a card one answer is waited for, and none more."""
    unknown = []
    for gradient in gradients:
        finite = gradient.isfinite().all()
        if finite.is_cpu and not bool(finite):
            return False
        unknown.append(finite)
    return all(bool(finite) for finite in to_host(unknown))


def _states_of(scaler: GradScaler) -> dict[int, dict[str, Any]]:
    """What a scaler knows of optimizers, by their `id`: torch has no public name for it; a disabled one has none."""
    return getattr(scaler, "_per_optimizer_states", {})


def _is_unscaled(state: Mapping[str, Any]) -> bool:
    return state.get("stage") is OptState.UNSCALED


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _is_true(optimizer: Optimizer) -> bool:
    """Whether its gradients are those that were divided: a step that was not taken is tried again with them."""
    return all(getattr(gradient, TRUE, None) == gradient._version for gradient in _gradients(optimizer))


@contextmanager
def _some_gradient(optimizer: Optimizer) -> Iterator[None]:
    """An optimizer without any gradient has one of zeros meanwhile: torch asserts that it found something."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    alone = params[0] if params and all(p.grad is None for p in params) else None
    if alone is not None:
        alone.grad = torch.zeros_like(alone, dtype=gradient_dtype(alone))
    yield
    if alone is not None:
        alone.grad = None
