"""The training loop on simulated workers: gradients, one round, an ordinary optimizer's step."""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from gradvote import kernels
from gradvote.engines.common.signals import signals_call
from gradvote.engines.gradients import set_gradients, trainable
from gradvote.engines.simulation import Simulation
from gradvote.faults import diverging
from gradvote.lab import data
from gradvote.lab.train import checkpoint, machine
from gradvote.lab.train.folder import RunFolder
from gradvote.lab.train.observe import Observer, Record
from gradvote.lab.train.setup import Setup, optimizer_for
from gradvote.staging import device_of

T = TypeVar("T")
Progress = Callable[[int, Record | None], None]


def silent(step: int, record: Record | None) -> None:
    """No progress shown."""


class Run:
    """One run: `check()` and `open()`, or `resume(state)`; then `train(progress)`."""

    def __init__(self, setup: Setup, place: RunFolder, command: str = "", label: str | None = None) -> None:
        self.setup, self.config, self.place = setup, setup.config, place
        self.command, self.label = command, label or setup.config.algorithm
        self.models = self._models()
        self.optimizers = [optimizer_for(setup.config, model, self._lr(0)) for model in self.models]
        self.engine: Any = self._engine()
        self.observer = self._observer()
        self.step, self.seconds, self.status, self.message = 0, 0.0, "running", ""
        self._stopped = self._overwrite = False

    def _models(self) -> list[nn.Module]:
        num_models = self.config.workers if diverging(self.setup.faults) else 1
        return [deepcopy(self.setup.model) for _ in range(num_models)]

    def _engine(self) -> Any:
        s, device = self.setup, device_of(trainable(self.models[0]))
        return Simulation(s.protocol, self.config.workers, s.faults, self.config.max_norm, device)

    def _observer(self) -> Observer:
        return Observer(self.setup, self.engine, self.models)

    def check(self, overwrite: bool = False) -> None:
        """Look at the first loss and at the folder; nothing is written.

        Raises:
            ValueError: the first loss is not finite, or the run must not be written there (`RunFolder.check`).
        """
        self._overwrite = overwrite
        self.place.check(overwrite, self.config.engine)
        losses = self.observer.first_losses()
        if not bool(losses.isfinite().all()):
            worker = int((~losses.isfinite()).nonzero()[0])
            raise ValueError(
                f"The loss of worker {worker} is {float(losses[worker])} before the first step, so nothing can be "
                "learned. Look at the data and the model's initial values."
            )

    def open(self) -> None:
        """Take the folder, without an earlier run's files, with the recipe and the checkpoint of step 0."""
        self.place.create(self._overwrite, self.config.engine)
        self._describe()
        self._save()

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's content.

        Raises:
            ValueError: the content is not that of such a run, or the run began with other data.
        """
        if state.get("data", self.setup.data.fingerprint) != self.setup.data.fingerprint:
            raise ValueError(
                f"The run in {self.place.path} began with other data than this {self.setup.data}. Name the folder of "
                "its own with --data-dir, or start a new run."
            )
        try:
            for model, saved in zip(self.models, state["models"], strict=True):
                model.load_state_dict(saved)
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.engine.load_state_dict(state["engine"])
            self.observer.resumed_round = dict(state["round"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            if not 0 <= self.seconds < math.inf:
                raise ValueError(f"it took {self.seconds} seconds.")
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{self.place.checkpoint} does not fit the run it names: {error}") from error

    def stop(self) -> None:
        """Ask `train` to end after the step it is in; a signal handler or the progress callback may."""
        self._stopped = True

    def train(self, progress: Progress = silent) -> None:
        """Run to the last step. SIGTERM, Ctrl-C or `stop` ends it after its step; a checkpoint is left always."""
        self.place.hold()
        try:
            with signals_call(self.stop), kernels.definitions(self._num_left()):
                self._describe()
                self.place.forget_from(self.step)
                self._steps(progress)
                self._save()
        except BaseException as error:
            self._end("interrupted", f"{type(error).__name__} in step {self.step}; the last checkpoint is an older one")
            raise
        finally:
            self._describe()
            self.place.release()

    def _num_left(self) -> int:
        """Coordinates of all workers' ballots from here on."""
        return (self.config.steps - self.step) * self.config.workers * self.setup.protocol.layout.size

    def _steps(self, progress: Progress) -> None:
        while self.step < self.config.steps and self.status == "running" and not self._stopped:
            self._one_step(progress)
        if self.status == "running" and self._stopped:
            self._end("interrupted", f"stopped by the user at step {self.step}")
        if self.status == "running":
            self._observe(None, progress)
        if self.status == "running":
            self._end("finished")

    def _one_step(self, progress: Progress) -> None:
        known = self._timed(self._gradients)
        if self.step % self.config.evaluate_every == 0:
            self._observe(known, progress)
        if self.status != "running":
            return
        self._timed(lambda: self._round(known))
        self.step += 1
        progress(self.step, None)
        if self.step % self.config.save_every == 0 and self.step < self.config.steps:
            self._save()

    def _gradients(self) -> tuple[Tensor, Tensor] | None:
        return self.observer.gradients(self.observer.batches(self.step), self.step)

    def _round(self, known: tuple[Tensor, Tensor] | None) -> None:
        assert known is not None
        direction = self.engine.step(known[1], self.step, self._lr(self.step))
        layout = self.setup.protocol.layout
        each = direction if direction.dim() == 2 else direction[None]
        for model, optimizer, own, decided in zip(self.models, self.optimizers, each, self.engine.decided, strict=True):
            set_gradients(trainable(model), layout, own, decided)
            self._set_lr(optimizer)
            optimizer.step()

    def _timed(self, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds += time.perf_counter() - started

    def _set_lr(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self._lr(self.step)

    def _observe(self, known: tuple[Tensor, Tensor] | None, progress: Progress) -> None:
        record = self.observer.look(self.step, self.seconds, known)
        self.place.append(record)
        progress(self.step, record)
        for key, name in (("loss", "loss"), ("grad_norm", "gradient norm")):
            if self.status == "running" and not math.isfinite(record[key]):
                self._end("diverged", f"the {name} became {record[key]} at step {self.step}")

    def _end(self, status: str, message: str = "") -> None:
        self.status, self.message = status, message

    def _lr(self, step: int) -> float:
        return self.setup.schedule(step, 0)

    def _save(self) -> None:
        checkpoint.save(self._state(), self.place.checkpoint)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "config": self.config.to_json(),
            "data": self.setup.data.fingerprint,
            "models": [model.state_dict() for model in self.models],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "engine": self.engine.state_dict(),
            "round": self.observer.round(self.step),
            "seconds": self.seconds,
        }

    def _describe(self) -> None:
        s = self.setup
        histogram = data.class_histogram(s.data.train_y, s.parts, s.data.num_classes)
        self.place.describe(
            {
                "name": self.place.path.resolve().name,
                "label": self.label,
                "algorithm": repr(s.protocol.algorithm),
                "command": self.command,
                "config": dict(vars(self.config)),
                "seed": self.config.seed,
                "versions": machine.versions(),
                "hardware": machine.hardware(),
                "num_parameters": s.protocol.layout.size,
                "num_workers": self.config.workers,
                "class_histogram": histogram.tolist(),
                "class_names": list(s.data.class_names),
                "status": self.status,
                "message": self.message,
                "step": self.step,
                "faults": "; ".join(map(str, s.faults)),
                "abstentions_by_worker": self.observer.abstentions().tolist(),
            }
        )
