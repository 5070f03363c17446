"""Looking at a run without disturbing it: one record per evaluated step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from gradvote.engines.gradients import Padded, loop_gradients, of_used, padded, vectorized_gradients
from gradvote.engines.simulation import Simulation
from gradvote.lab.train import metrics
from gradvote.lab.train.setup import Setup

Record = dict[str, Any]
Local = list[tuple[Tensor, Tensor]]


@dataclass
class Observer:
    """The workers' data, their gradients, and what is measured of them."""

    setup: Setup
    simulation: Simulation
    models: Sequence[nn.Module]
    whole: Local = field(init=False)
    resumed_round: Record = field(default_factory=dict)

    def __post_init__(self) -> None:
        d, config = self.setup.data, self.setup.config
        limit = None if self.is_full else max(1, config.eval_samples // config.workers)
        self.whole = [(d.train_x[part[:limit]], d.train_y[part[:limit]]) for part in self.setup.parts]

    @property
    def is_full(self) -> bool:
        """Whether every step uses all samples, so that a step's gradients are those of the true objective."""
        return all(batches.is_full for batches in self.setup.batches)

    def batches(self, step: int) -> Local:
        """What each worker uses in this step."""
        if self.is_full:
            return self.whole
        x, y = self.setup.data.train_x, self.setup.data.train_y
        return [(x[i], y[i]) for i in (batches.at(step) for batches in self.setup.batches)]

    def gradients(self, local: Local, step: int) -> tuple[Tensor, Tensor]:
        """Losses (M,) and gradients (M, d) of the workers."""
        config = self.setup.config
        if config.mode == "vectorized":
            batches = self._padded if local is self.whole else local
            return vectorized_gradients(self.models, batches, self.setup.protocol.layout, config.seed, step)
        return loop_gradients(self.models, local, self.setup.protocol.layout, config.seed, step)

    @cached_property
    def _padded(self) -> Padded:
        return padded(self.whole)

    def first_losses(self) -> Tensor:
        """The losses (M,) before the first step."""
        with kept_buffers(self.models):
            return self.gradients(self.batches(0), 0)[0]

    def look(self, step: int, seconds: float, known: tuple[Tensor, Tensor] | None) -> Record:
        """The record of a step; `known` are this step's losses and gradients, used where they are of all samples."""
        if known is None or not self.is_full:
            with kept_buffers(self.models):
                known = self.gradients(self.whole, step)
        truth = metrics.truth(known[0], of_used(*known), self.setup.shares)
        return {
            "step": step,
            **vars(truth),
            **self._accuracies(),
            **self._traffic(),
            "seconds": seconds,
            "drift": self._drift(),
            **self.round(step),
            "lr": self.setup.schedule(step, 0),
        }

    def round(self, step: int) -> Record:
        """What the round before `step` left: ties of the vote, the workers' memories and how they drain."""
        s = self.simulation
        norm = metrics.memory_norm(self.setup.protocol.algorithm, s.workers, s.num_workers)
        if not s.ballots:
            return self.resumed_round or {"ties": None, "memory_norm": norm, "drain": None}
        lr = self.setup.schedule(step - 1, 0)
        return {
            "ties": metrics.ties(s, step - 1, lr),
            "memory_norm": norm,
            "drain": metrics.drain(s, step - 1, lr),
        }

    def _drift(self) -> float:
        return metrics.drift(self.models)

    def _accuracies(self) -> Record:
        d, samples = self.setup.data, self.setup.config.eval_samples
        return {
            "train_accuracy": metrics.accuracy(self.models, d.train_x[:samples], d.train_y[:samples]),
            "test_accuracy": metrics.accuracy(self.models, d.test_x[:samples], d.test_y[:samples]),
        }

    def abstentions(self) -> Tensor:
        """Blocks that abstained so far, by worker (M,)."""
        return self.simulation.counts.abstentions

    def counts(self) -> tuple[int, int, int]:
        """Bytes up, bytes down and steps so far, over all workers."""
        c = self.simulation.counts
        return c.bytes_up, c.bytes_down, c.steps

    def _traffic(self) -> Record:
        up, down, steps = self.counts()
        coordinates = steps * self.setup.protocol.layout.size * self.setup.config.workers
        return {
            "bytes_up": up,
            "bytes_down": down,
            "bits_up": up * 8 / coordinates if coordinates else None,
            "bits_down": down * 8 / coordinates if coordinates else None,
            "abstentions": int(self.abstentions().sum()),
        }


@contextmanager
def kept_buffers(models: Sequence[nn.Module]) -> Iterator[None]:
    """Whatever a forward pass within does to buffers (BatchNorm's running statistics) is undone afterwards."""
    saved = [[buffer.clone() for buffer in model.buffers()] for model in models]
    try:
        yield
    finally:
        with torch.no_grad():
            for model, own in zip(models, saved, strict=True):
                for buffer, value in zip(model.buffers(), own, strict=True):
                    buffer.copy_(value)
