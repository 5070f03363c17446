"""The training loop on simulated workers: gradients, one round, an ordinary optimizer's step."""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from gradvote import data
from gradvote.engines.gradients import GRADIENTS, trainable
from gradvote.engines.simulation import Simulation
from gradvote.train import checkpoint, folder, metrics
from gradvote.train.folder import RunFolder
from gradvote.train.setup import Setup, optimizer_for

Record = dict[str, Any]
Progress = Callable[[int, Record | None], None]


def silent(step: int, record: Record | None) -> None:
    """No progress shown."""


class Run:
    """One run: `start()` or `resume(state)`, then `train(progress)`."""

    def __init__(self, setup: Setup, place: RunFolder, command: str = "", label: str | None = None) -> None:
        self.setup, self.config, self.place = setup, setup.config, place
        self.command, self.label = command, label or setup.config.algorithm
        self.simulation = Simulation(setup.protocol, setup.config.workers, setup.faults)
        num_models = setup.config.workers if self.simulation.diverging else 1
        self.models = [deepcopy(setup.model) for _ in range(num_models)]
        self.optimizers = [optimizer_for(setup.config, model, self._lr(0)) for model in self.models]
        self.gradients = GRADIENTS["vectorized" if setup.config.mode == "vectorized" else "loop"]
        self.step, self.seconds, self.status, self.message = 0, 0.0, "running", ""

    def start(self, overwrite: bool = False) -> None:
        """Open the run's folder, after a first look at the loss.

        Raises:
            ValueError: the first loss is not finite, or the folder holds a run.
        """
        losses, _ = self._gradients(self._batches(0))
        if not bool(losses.isfinite().all()):
            worker = int((~losses.isfinite()).nonzero()[0])
            raise ValueError(
                f"The loss of worker {worker} is {float(losses[worker])} before the first step, so nothing can be "
                "learned. Look at the data and the model's initial values."
            )
        self.place.create(overwrite)
        self._describe()

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's content."""
        for model, saved in zip(self.models, state["models"], strict=True):
            model.load_state_dict(saved)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.simulation.load_state_dict(state["engine"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.place.forget_after(self.step)

    def train(self, progress: Progress = silent) -> None:
        """Run to the last step; Ctrl-C leaves a checkpoint and a usable folder."""
        try:
            while self.step < self.config.steps and self.status == "running":
                self._one_step(progress)
            if self.status == "running":
                self._observe(None, progress)
                self.status = "finished"
        except KeyboardInterrupt:
            self.status, self.message = "interrupted", f"stopped by the user at step {self.step}"
        self._save()
        self._describe()

    def _one_step(self, progress: Progress) -> None:
        started = time.perf_counter()
        losses, gradients = self._gradients(self._batches(self.step))
        self.seconds += time.perf_counter() - started
        if self.step % self.config.evaluate_every == 0:
            self._observe((losses, gradients) if self._is_full else None, progress)
        if self.status != "running":
            return
        started = time.perf_counter()
        direction = self.simulation.step(gradients, self.step, self._lr(self.step))
        self._apply(direction)
        self.seconds += time.perf_counter() - started
        self.step += 1
        progress(self.step, None)
        if self.step % self.config.save_every == 0 and self.step < self.config.steps:
            self._save()

    def _apply(self, direction: Tensor) -> None:
        layout = self.setup.protocol.layout
        each = direction if direction.dim() == 2 else direction[None]
        for model, optimizer, own in zip(self.models, self.optimizers, each, strict=True):
            params = trainable(model)
            for p in params:
                if p.grad is None:
                    p.grad = torch.empty_like(p, memory_format=torch.contiguous_format)
            layout.unflatten(own, [p.grad for p in params if p.grad is not None])
            for group in optimizer.param_groups:
                group["lr"] = self._lr(self.step)
            optimizer.step()

    def _observe(self, known: tuple[Tensor, Tensor] | None, progress: Progress) -> None:
        losses, gradients = known or self._gradients(self._whole())
        record = self._record(metrics.truth(losses, gradients, self.setup.shares))
        self.place.append(record)
        progress(self.step, record)
        if not math.isfinite(record["loss"]) or not math.isfinite(record["grad_norm"]):
            self.status = "diverged"
            self.message = f"the loss became {record['loss']} at step {self.step}"

    def _record(self, truth: metrics.Truth) -> Record:
        d, samples, counts = self.setup.data, self.config.eval_samples, self.simulation.counts
        steps, coordinates = max(counts.steps, 1), self.setup.protocol.layout.size * self.config.workers
        lr = self._lr(self.step)
        return {
            "step": self.step,
            "loss": truth.loss,
            "train_accuracy": metrics.accuracy(self.models, d.train_x[:samples], d.train_y[:samples]),
            "test_accuracy": metrics.accuracy(self.models, d.test_x[:samples], d.test_y[:samples]),
            "grad_norm": truth.grad_norm,
            "median_mean_gap": truth.median_mean_gap,
            "bytes_up": counts.bytes_up,
            "bytes_down": counts.bytes_down,
            "bits_up": counts.bytes_up * 8 / steps / coordinates if counts.steps else None,
            "bits_down": counts.bytes_down * 8 / steps / coordinates if counts.steps else None,
            "seconds": self.seconds,
            "abstentions": int(counts.abstentions.sum()),
            "ties": metrics.ties(self.simulation, self.step - 1, lr),
            "drift": metrics.drift(self.models),
            "memory_norm": metrics.memory_norm(self.simulation.workers),
            "lr": lr,
        }

    def _batches(self, step: int) -> list[tuple[Tensor, Tensor]]:
        x, y = self.setup.data.train_x, self.setup.data.train_y
        if self._is_full:
            return self._whole()
        return [(x[i], y[i]) for i in (b.at(step) for b in self.setup.batches)]

    def _whole(self) -> list[tuple[Tensor, Tensor]]:
        if not hasattr(self, "_local"):
            x, y = self.setup.data.train_x, self.setup.data.train_y
            limit = None if self._is_full else max(1, self.config.eval_samples // self.config.workers)
            self._local = [(x[part[:limit]], y[part[:limit]]) for part in self.setup.parts]
        return self._local

    @property
    def _is_full(self) -> bool:
        return all(b.is_full for b in self.setup.batches)

    def _gradients(self, batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return self.gradients(self.models, batches, self.setup.protocol.layout, self.config.seed, self.step)

    def _lr(self, step: int) -> float:
        return self.setup.schedule(step, 0)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "config": self.config.to_json(),
            "models": [model.state_dict() for model in self.models],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "engine": self.simulation.state_dict(),
            "seconds": self.seconds,
        }
        checkpoint.save(state, self.place.checkpoint)

    def _describe(self) -> None:
        s = self.setup
        histogram = data.class_histogram(s.data.train_y, s.parts, s.data.num_classes)
        self.place.describe(
            {
                "name": self.place.path.name,
                "label": self.label,
                "algorithm": repr(s.protocol.algorithm),
                "command": self.command,
                "config": dict(vars(self.config)),
                "seed": self.config.seed,
                "versions": folder.versions(),
                "hardware": folder.hardware(),
                "num_parameters": s.protocol.layout.size,
                "num_workers": self.config.workers,
                "class_histogram": histogram.tolist(),
                "class_names": list(s.data.class_names),
                "status": self.status,
                "message": self.message,
                "faults": "; ".join(map(str, s.faults)),
                "abstentions_by_worker": self.simulation.counts.abstentions.tolist(),
            }
        )
