"""Language models as cells: workers with their own plays, one exchange a step, any of torch's optimizers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW, Optimizer

from gradvote import algorithms
from gradvote.data import shakespeare
from gradvote.data.shuffle import Purpose, bits
from gradvote.engines.gradients import loop_gradients, trainable
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.experiments.claim import Bench, Cell, Numbers
from gradvote.models.transformer import Size, Transformer
from gradvote.train import checkpoint

HELD_OUT_WINDOWS = 64
CHECKPOINTS = 20
CURVES = ("step", "train_loss", "loss", "bytes")
UNUSED: dict[str, Any] = {"round": {}, "seconds": 0.0}
"""What a checkpoint has beside what is needed here."""


def train(cell: Cell, bench: Bench) -> Numbers:
    """Train as the cell says; gives steps, training and held-out loss per character (nats), and bytes up and down.

    A cell has `algorithm`, `options`, `optimizer` ("sgd", "adamw"), `lr`, `workers`, `batch_size` (windows for each
    worker), `steps`, `eval_every`, `seed` and the sizes of `Size`. The rate falls along a half cosine. An interrupted
    cell goes on from its last checkpoint.
    """
    path = bench.folder / "checkpoint.pt"
    run = _Run(cell)
    if path.is_file():
        run.load(checkpoint.load(path))
    bench.folder.mkdir(parents=True, exist_ok=True)
    every = max(1, cell["steps"] // CHECKPOINTS)
    while run.step < cell["steps"] and not run.diverged:
        run.one_step()
        if run.step % every == 0:
            checkpoint.save(run.state(), path)
            bench.tell(f"step {run.step} of {cell['steps']}")
    run.look()
    return {**run.curves, "parameters": run.engine.protocol.layout.size, "diverged": run.diverged}


@dataclass
class _Run:
    cell: Cell
    step: int = 0
    diverged: bool = False
    curves: dict[str, list[float]] = field(default_factory=lambda: {k: [] for k in CURVES})
    recent: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        cell, self.plays = self.cell, _plays()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(cell["seed"])
            size = {k: cell[k] for k in ("context", "width", "layers", "heads")}
            self.model = Transformer(Size(len(self.plays.alphabet), **size))
        self.params = trainable(self.model)
        algorithm = algorithms.create(cell["algorithm"], **cell.get("options", {}))
        self.engine = Simulation(protocol_for(self.params, algorithm, cell["seed"]), cell["workers"])
        self.optimizer = _optimizer(cell["optimizer"], self.params)
        hands = shakespeare.dealt(self.plays.train, cell["workers"])
        self.texts = [torch.cat([self.plays.train[name] for name in hand]) for hand in hands]

    def one_step(self) -> None:
        """Gradients, a round, the optimizer's step; a look before it where one is due."""
        if self.step % self.cell["eval_every"] == 0:
            self.look()
        layout, lr = self.engine.protocol.layout, self.rate()
        losses, gradients = loop_gradients([self.model], list(self._batches()), layout, self.cell["seed"], self.step)
        direction = self.engine.step(gradients, self.step, lr)
        for p in self.params:
            p.grad = torch.empty_like(p) if p.grad is None else p.grad
        layout.unflatten(direction, [p.grad for p in self.params if p.grad is not None])
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.recent.append(float(losses.mean()))
        self.diverged = not math.isfinite(self.recent[-1])
        self.step += 1

    def rate(self) -> float:
        """η/2·(1 + cos(π·step/steps))."""
        return float(self.cell["lr"]) * (1 + math.cos(math.pi * self.step / self.cell["steps"])) / 2

    def look(self) -> None:
        """A point of the curves; the training loss is the mean since the last one."""
        counts = self.engine.counts
        seen = sum(self.recent) / len(self.recent) if self.recent else math.nan
        values = (self.step, seen, self._held_out_loss(), counts.bytes_up + counts.bytes_down)
        for key, value in zip(CURVES, values, strict=True):
            self.curves[key].append(float(f"{value:.6g}"))
        self.recent = []

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        own = {"step": self.step, "curves": self.curves, "recent": self.recent, "diverged": self.diverged}
        model, optimizer, engine = self.model.state_dict(), self.optimizer.state_dict(), self.engine.state_dict()
        return {**own, "config": "", "models": [model], "optimizers": [optimizer], "engine": engine} | UNUSED

    def load(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.step, self.curves, self.recent, self.diverged = (
            state[key] for key in ("step", "curves", "recent", "diverged")
        )
        self.model.load_state_dict(state["models"][0])
        self.optimizer.load_state_dict(state["optimizers"][0])
        self.engine.load_state_dict(state["engine"])

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for worker, text in enumerate(self.texts):
            starts = bits(self.cell["seed"], Purpose.BATCHES, worker, self.step).random_raw(
                int(self.cell["batch_size"])
            )
            places = np.atleast_1d(starts) % (len(text) - self._length)
            yield _windows(text, torch.from_numpy(places.astype(np.int64)), self._length)

    @property
    def _length(self) -> int:
        return int(self.cell["context"])

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """On windows spread evenly over the held-out parts of all plays."""
        text = torch.cat(list(self.plays.held_out.values()))
        starts = torch.linspace(0, len(text) - self._length - 1, HELD_OUT_WINDOWS).long()
        x, y = _windows(text, starts, self._length)
        return float(cross_entropy(self.model(x), y))


@lru_cache(maxsize=1)
def _plays() -> shakespeare.Plays:
    return shakespeare.load()


def _windows(text: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Codes and the codes that follow them, both (N, length)."""
    window = text[starts[:, None] + torch.arange(length + 1)]
    return window[:, :-1], window[:, 1:]


def _optimizer(name: str, params: list[torch.nn.Parameter]) -> Optimizer:
    return AdamW(params, 0.0, weight_decay=0.0) if name == "adamw" else SGD(params, 0.0)
