"""A training loop for what does not fit into `gradvote.lab.train`: other data, losses, any optimizer of torch's."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from gradvote import algorithms
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.common.signals import signals_call
from gradvote.engines.gradients import loop_gradients, set_gradients, trainable
from gradvote.engines.simulation import Simulation
from gradvote.lab.experiments.claim import Bench, Cell, Numbers
from gradvote.lab.train import checkpoint
from gradvote.optim import NesterovDecay
from gradvote.schedules import Schedule

SECONDS = 20.0
"""The time between two checkpoints."""
UNUSED: dict[str, Any] = {"config": "", "round": {}, "seconds": 0.0}
"""What a checkpoint has beside what is needed here."""


def device() -> torch.device:
    """Where models compute: a GPU where there is one. The exchange is on the CPU always."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Loop(ABC):
    """One model and M simulated workers: gradients, an exchange, the optimizer's step.

    A cell has `algorithm`, `options`, `optimizer` ("sgd", "nesterov", "nesterov-decay", "adamw"), `weight_decay`,
    `workers`, `steps`, `eval_every` and `seed`.
    """

    curves: Sequence[str]
    """What `measure` gives; `step`, `train_loss` (mean since the last look) and `bytes` (up and down) come with it."""

    def __init__(self, cell: Cell, model: nn.Module, schedule: Schedule) -> None:
        self.cell, self.schedule = cell, schedule
        self.model = model.to(device())
        self.params = trainable(self.model)
        algorithm = algorithms.create(cell["algorithm"], **cell.get("options", {}))
        self.engine = Simulation(protocol_for(self.params, algorithm, cell["seed"]), cell["workers"])
        self.optimizer = _optimizer(cell, self.params)
        self.step, self.diverged, self.stopped, self.recent = 0, False, False, list[float]()
        self.points: dict[str, list[float]] = {k: [] for k in ("step", "train_loss", "bytes", *self.curves)}

    @abstractmethod
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """What each worker learns from in this step."""

    @abstractmethod
    def measure(self) -> Sequence[float]:
        """A value for each of `curves`."""

    def run(self, bench: Bench) -> Numbers:
        """To the last step, from the last checkpoint if there is one; the curves, the size, and whether it diverged.

        SIGTERM or Ctrl-C ends it after its step, with KeyboardInterrupt; the checkpoint stays.
        """
        path, saved = bench.folder / "checkpoint.pt", time.monotonic()
        bench.folder.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            self.load(checkpoint.load(path))
        with signals_call(self.stop):
            while self.step < self.cell["steps"] and not self.diverged and not self.stopped:
                self._one_step()
                if self.stopped or time.monotonic() >= saved + SECONDS:
                    checkpoint.save(self.state(), path)
                    saved = time.monotonic()
                bench.tell(self.step, self.cell["steps"], "")
        if self.stopped and self.step < self.cell["steps"] and not self.diverged:
            raise KeyboardInterrupt
        self._look()
        return {**self.points, "parameters": self.engine.protocol.layout.size, "diverged": self.diverged}

    def stop(self) -> None:
        """Ask `run` to end after the step it is in, with a checkpoint."""
        self.stopped = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        own = {"step": self.step, "points": self.points, "recent": self.recent, "diverged": self.diverged}
        parts = {"models": [self.model.state_dict()], "optimizers": [self.optimizer.state_dict()]}
        return {**own, **parts, "engine": self.engine.state_dict(), **UNUSED}

    def load(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.step, self.points, self.recent, self.diverged = (
            state[key] for key in ("step", "points", "recent", "diverged")
        )
        self.model.load_state_dict(state["models"][0])
        self.optimizer.load_state_dict(state["optimizers"][0])
        self.engine.load_state_dict(state["engine"])

    def _one_step(self) -> None:
        if self.step % self.cell["eval_every"] == 0:
            self._look()
        layout, lr = self.engine.protocol.layout, self.schedule(self.step, 0)
        here = [(x.to(device()), y.to(device())) for x, y in self.batches()]
        losses, gradients = loop_gradients([self.model], here, layout, self.cell["seed"], self.step)
        direction = self.engine.step(gradients, self.step, lr)
        set_gradients(self.params, layout, direction, self.engine.decided[0])
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.recent.append(float(losses.mean()))
        self.diverged = not math.isfinite(self.recent[-1])
        self.step += 1

    def _look(self) -> None:
        counts = self.engine.counts
        seen = sum(self.recent) / len(self.recent) if self.recent else math.nan
        values = (self.step, seen, counts.bytes_up + counts.bytes_down, *self.measure())
        for key, value in zip(self.points, values, strict=True):
            self.points[key].append(float(f"{value:.6g}"))
        self.recent = []


def _optimizer(cell: Cell, params: list[nn.Parameter]) -> Optimizer:
    decay, name = cell.get("weight_decay", 0.0), cell["optimizer"]
    if name == "nesterov-decay":
        return NesterovDecay(params, 0.0, weight_decay=decay)
    if name == "adamw":
        return AdamW(params, 0.0, weight_decay=decay)
    momentum = 0.9 if name == "nesterov" else 0.0
    return SGD(params, 0.0, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)
