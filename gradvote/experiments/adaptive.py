"""Training with a b that is measured again and again, from the workers' gradients of the step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradvote.algorithms.noisy import noisy
from gradvote.train import Record, Run, RunFolder
from gradvote.train.observe import Observer
from gradvote.train.setup import Setup

Rule = Callable[[Tensor], float]
"""From the workers' gradients (M, d) to b, in their units."""


class AdaptiveRun(Run):
    """A run of an algorithm without noise, to which `rule` adds it; b is set anew every `every` steps.

    The simulation sees all gradients. On real workers they are gathered at those steps, or a sample of their
    coordinates is.
    """

    def __init__(self, setup: Setup, place: RunFolder, rule: Rule, every: int = 10) -> None:
        self.rule, self.every, self.quiet, self.noise_std = rule, every, setup.protocol.algorithm, 0.0
        super().__init__(replace(setup, protocol=replace(setup.protocol, algorithm=noisy(self.quiet, 0.0))), place)

    def _observer(self) -> Observer:
        return _Listener(self.setup, self.engine, self.models, lambda: self.noise_std)

    def _round(self, known: tuple[Tensor, Tensor] | None) -> None:
        assert known is not None
        if self.step % self.every == 0 and bool(known[1].isfinite().all()):
            self._make_noise(self.rule(known[1]))
        super()._round(known)

    def resume(self, state: dict[str, Any]) -> None:
        """Continue, with the b of the checkpoint."""
        super().resume(state)
        self._make_noise(float(state["noise_std"]))

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "noise_std": self.noise_std}

    def _make_noise(self, b: float) -> None:
        self.noise_std = b
        self.engine.protocol = replace(self.engine.protocol, algorithm=noisy(self.quiet, b))


class _Listener(Observer):
    """Notes b as well."""

    def __init__(
        self, setup: Setup, simulation: Any, models: list[torch.nn.Module], noise_std: Callable[[], float]
    ) -> None:
        super().__init__(setup, simulation, models)
        self.noise_std = noise_std

    def look(self, step: int, seconds: float, known: tuple[Tensor, Tensor] | None) -> Record:
        return {**super().look(step, seconds, known), "noise_std": self.noise_std()}
