"""The local steps of one real worker: what `LocalRun` does for all simulated ones, over `gradvote.local_steps`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from gradvote import local_steps
from gradvote.codecs import AfterSteps
from gradvote.engines.gradients import begin_randomness, trainable, worker_seed
from gradvote.lab.train.setup import Setup, inner_for
from gradvote.staging import device_of


class OwnSteps:
    """H steps of this worker's own optimizer on `model`, then a round of `engine`, whose optimizer is the `outer` one.

    `options` are the engine's.
    """

    def __init__(self, setup: Setup, model: nn.Module, outer: Optimizer, engine: str, **options: Any) -> None:
        algorithm, self._config, self._model = setup.protocol.algorithm, setup.config, model
        if isinstance(algorithm.up, AfterSteps):
            algorithm = replace(algorithm, up=algorithm.up.codec)  # attach says it, too
        self.inner = inner_for(setup.config, trainable(model))
        self.every = setup.config.local_steps or 1
        given = {"every": self.every, "outer": outer, "engine": engine, "delay": setup.config.delay, **options}
        self.local = local_steps.attach(model, self.inner, algorithm, **given)

    def round(self, batch: Callable[[int], tuple[Tensor, Tensor]], worker: int, step: int) -> None:
        """Round `step` of worker `worker`; `batch(k)` is what it uses in its k-th step of the run."""
        device = device_of(trainable(self._model))
        for k in range(step * self.every, (step + 1) * self.every):
            x, y = batch(k)
            begin_randomness(device, worker_seed(self._config.seed, k, worker))
            self.inner.zero_grad(set_to_none=True)
            cross_entropy(self._model(x), y).backward()
            self.inner.step()
            self.local.step()

    def state_dict(self) -> dict[str, Any]:
        """Of the round and of the worker's own optimizer; with a delay where the worker is, too."""
        own = [p.detach().clone() for p in trainable(self._model)] if self._config.delay else []
        return {"steps": self.local.state_dict(), "inner": self.inner.state_dict(), "left": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; engine and model, which is what all agreed on, have been loaded."""
        self.local.load_state_dict(state["steps"])
        self.inner.load_state_dict(state["inner"])
        with torch.no_grad():
            for p, own in zip(trainable(self._model), state.get("left", ()), strict=bool(self._config.delay)):
                p.copy_(own)
