"""One training run: five workers with their own plays, in the simulation, and what the model then loses."""

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW

from gradvote import algorithms, faults
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.gradients import loop_gradients, set_gradients, trainable
from gradvote.engines.pseudo_gradients import LocalWorkers
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty
from gradvote.lab.data import shakespeare
from gradvote.lab.experiments.powersgd import PowerSGD
from gradvote.lab.models import Size, Transformer
from gradvote.lab.plan import bits_of
from language.plan import ADAMW, METHODS, POWERSGD, SCALES, Scale
from language.records import Record

WORKERS, LOOKS, WINDOWS = 5, 8, 64


class Way(Protocol):
    """How a method trains."""

    bytes_per_round: float

    def advance(self, step: int) -> None:
        """A round, which begins at this step of the workers."""

    def state(self) -> dict[str, Any]:
        """All but the model's parameters."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Reading:
    """The workers' windows of their own plays; of each play's held-out tenth one half is to choose by, one to judge."""

    def __init__(self, scale: Scale) -> None:
        self.scale, plays = scale, shakespeare.load()
        hands = shakespeare.dealt(plays.train, WORKERS)
        self.texts = [torch.cat([plays.train[name] for name in hand]) for hand in hands]
        halves = [text.tensor_split(2) for text in plays.held_out.values()]
        self.validation, self.test = (torch.cat(side) for side in zip(*halves, strict=True))
        self.alphabet = plays.alphabet

    def batches(self, seed: int, step: int) -> list[tuple[Tensor, Tensor]]:
        """Of all workers, in a step of theirs."""
        return [self._windows(text, self._starts(text, (seed, i, step))) for i, text in enumerate(self.texts)]

    def model(self, seed: int) -> Transformer:
        """The model at its start."""
        torch.manual_seed(seed)
        s = self.scale
        return Transformer(Size(len(self.alphabet), s.context, s.width, s.layers, heads=4))

    @torch.no_grad()
    def loss(self, model: nn.Module, text: Tensor) -> float:
        """In nats per character, on windows spread evenly over a text."""
        starts = torch.linspace(0, len(text) - self.scale.context - 1, WINDOWS).long()
        x, y = self._windows(text, starts)
        return round(float(cross_entropy(model(x), y)), 4)

    def _starts(self, text: Tensor, key: tuple[int, int, int]) -> Tensor:
        draws = np.random.default_rng(key)
        return torch.from_numpy(draws.integers(0, len(text) - self.scale.context - 1, self.scale.batch))

    def _windows(self, text: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        window = text[starts[:, None] + torch.arange(self.scale.context + 1)]
        return window[:, :-1], window[:, 1:]


@lru_cache(maxsize=1)
def _reading(scale: Scale) -> Reading:
    return Reading(scale)


class Local:
    """H steps of AdamW on each worker, a round, a step of SGD from the start."""

    def __init__(self, cell: Record, reading: Reading, model: nn.Module) -> None:
        method, self.params = METHODS[cell["method"]], trainable(model)
        algorithm = method.algorithm()
        self.protocol = protocol_for(self.params, algorithm, cell["seed"])
        self.simulation = Simulation(self.protocol, WORKERS, _lies(cell))
        layout = self.protocol.layout
        self.workers = LocalWorkers(model, lambda params: AdamW(params, cell["inner"]), WORKERS, layout)
        self.outer = SGD(self.params, cell["outer"], momentum=method.momentum, nesterov=method.momentum > 0)
        self.bytes_per_round = sent_by_each(algorithm, layout.size)
        self.cell, self.reading = cell, reading

    def advance(self, step: int) -> None:
        every, seed = self.cell["every"], self.cell["seed"]
        rounds = [self.reading.batches(seed, step + k) for k in range(every)]
        _, ways = self.workers.pseudo_gradients(rounds, seed, step // every)
        direction = self.simulation.step(ways, step // every, self.cell["outer"])
        set_gradients(self.params, self.protocol.layout, direction, self.simulation.decided[0])
        self.outer.step()

    def state(self) -> dict[str, Any]:
        return {n: getattr(self, n).state_dict() for n in ("simulation", "workers", "outer")}

    def restore(self, state: dict[str, Any]) -> None:
        for name, own in state.items():
            getattr(self, name).load_state_dict(own)


class EveryStep:
    """The gradients of every step, in a mean or by PowerSGD, before one AdamW."""

    def __init__(self, cell: Record, reading: Reading, model: nn.Module) -> None:
        self.model, self.params = model, trainable(model)
        protocol = protocol_for(self.params, algorithms.sgd(), cell["seed"])
        self.layout, self.optimizer = protocol.layout, AdamW(self.params, cell["inner"])
        self.engine: Any = Simulation(protocol, WORKERS, _lies(cell))
        self.bytes_per_round = sent_by_each(algorithms.sgd(), self.layout.size)
        if cell["method"] == POWERSGD:
            self.engine = PowerSGD(self.layout, tuple(p.shape for p in self.params), WORKERS, mu=0.0)
            numbers = sum(p.numel() if p.dim() < 2 else p.shape[0] + p[0].numel() for p in self.params)
            self.bytes_per_round = 2 * (WORKERS - 1) / WORKERS * 4 * numbers
        self.cell, self.reading = cell, reading

    def advance(self, step: int) -> None:
        seed = self.cell["seed"]
        _, gradients = loop_gradients([self.model], self.reading.batches(seed, step), self.layout, seed, step)
        set_gradients(self.params, self.layout, self.engine.step(gradients, step, 1.0), self.engine.decided[0])
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        return {n: getattr(self, n).state_dict() for n in ("engine", "optimizer")}

    def restore(self, state: dict[str, Any]) -> None:
        for name, own in state.items():
            getattr(self, name).load_state_dict(own)


def run(cell: Record, saved: Path) -> Record:
    """The validation loss against the workers' steps, the test loss at the end, and what each worker sends in all.

    Goes on from the file `saved`, which is written at each look and removed at the end.
    """
    scale = SCALES[cell["scale"]]
    reading = _reading(scale)
    model = reading.model(cell["seed"])
    make: Callable[..., Way] = EveryStep if cell["method"] in (ADAMW, POWERSGD) else Local
    way, every, look = make(cell, reading, model), cell["every"], max(1, scale.steps // LOOKS)
    points = {"step": [0], "loss": [reading.loss(model, reading.validation)]}
    first, seconds = _restored(cell, saved, model, way, points)
    started = time.process_time() - seconds
    for step in range(first, scale.steps, every):
        way.advance(step)
        if (step + every) // look > step // look:
            points["step"].append(step + every)
            points["loss"].append(reading.loss(model, reading.validation))
            state = {"cell": cell, "points": points, "next": step + every, "seconds": time.process_time() - started}
            _save({**state, "model": model.state_dict(), "way": way.state()}, saved)
            if not points["loss"][-1] < 10:  # also where it is not a number
                break
    megabytes = round(way.bytes_per_round * (scale.steps // every) / 1e6, 5)
    own = {"test": reading.loss(model, reading.test), "megabytes": megabytes}
    saved.unlink(missing_ok=True)
    return {**cell, **points, **own, "seconds": round(time.process_time() - started, 1)}


def sent_by_each(algorithm: Algorithm, d: int) -> float:
    """Bytes that each worker sends in a round, where the server stands so that they are fewest."""
    up, down = bits_of(algorithm)
    return min((WORKERS - 1) / WORKERS * (up + down), (WORKERS - 1) * up) * d / 8


def _lies(cell: Record) -> list[Faulty]:
    factor = cell["fault"]
    return [Faulty(faults.create("rescale", factor=-factor), "worker", workers=(WORKERS - 1,))] if factor else []


def _restored(cell: Record, saved: Path, model: nn.Module, way: Way, points: Record) -> tuple[int, float]:
    """The step to go on with and the seconds so far; 0 where the file is another run's, or there is none."""
    state = torch.load(saved, weights_only=False) if saved.is_file() else {}
    if state.get("cell") != cell:
        return 0, 0.0
    model.load_state_dict(state["model"])
    way.restore(state["way"])
    points.update(state["points"])
    return int(state["next"]), float(state["seconds"])


def _save(state: dict[str, Any], saved: Path) -> None:
    new = saved.with_suffix(".new")
    torch.save(state, new)
    new.replace(saved)
