"""Training with a b that is measured again and again, from the workers' gradients of the step."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradvote.algorithms.noisy import noisy
from gradvote.lab.experiments.sweep import Sweep
from gradvote.lab.train import Record, Run, RunFolder
from gradvote.lab.train.observe import Observer
from gradvote.lab.train.setup import Setup

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


class AdaptiveSweep(Sweep):
    """`AdaptiveRun` for runs of signSGD that are trained together, each with a b of its own.

    Gradients are cast in units of b, as sign(g + bξ) = sign(g/b + ξ); b is at least 10⁻⁹ of a run's largest entry.
    """

    def __init__(self, setups: Sequence[Setup], rule: Rule, every: int = 10) -> None:
        loud = [noisy(s.protocol.algorithm, 1.0) for s in setups]
        super().__init__(
            [replace(s, protocol=replace(s.protocol, algorithm=a)) for s, a in zip(setups, loud, strict=True)]
        )
        self.rule, self.every, self.stds = rule, every, torch.zeros(len(setups))
        for curves in self.curves:
            curves["noise_std"] = []

    def state(self) -> dict[str, Any]:
        return {**super().state(), "stds": self.stds}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.stds = state["stds"]

    def _seen(self, run: int) -> dict[str, float | None]:
        return {**super()._seen(run), "noise_std": float(self.stds[run])}

    def _round(self, gradients: Tensor, step: int) -> None:
        if step % self.every == 0:
            known = [bool(own.isfinite().all()) for own in gradients]
            self.stds = torch.tensor(
                [self.rule(own) if k else float(b) for own, k, b in zip(gradients, known, self.stds, strict=True)]
            )
        least = 1e-9 * gradients.abs().amax((1, 2)).clamp(min=1e-20)
        super()._round(gradients / self.stds.maximum(least)[:, None, None], step)


class _Listener(Observer):
    """Notes b as well."""

    def __init__(
        self, setup: Setup, simulation: Any, models: list[torch.nn.Module], noise_std: Callable[[], float]
    ) -> None:
        super().__init__(setup, simulation, models)
        self.noise_std = noise_std

    def look(self, step: int, seconds: float, known: tuple[Tensor, Tensor] | None) -> Record:
        return {**super().look(step, seconds, known), "noise_std": self.noise_std()}
