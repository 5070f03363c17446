"""Training runs that differ in seed and rate alone, stepped together: many small models as one batch of matrices.

R runs of one algorithm are one exchange of the simulation over R copies of every parameter, each copy with its own
blocks and so with its own scales, masks and noise. Shapes: R runs, M workers, K models of a run (1, or M where faults
on the way down make the workers' models differ), n coordinates of a parameter.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy

from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.common.signals import signals_call
from gradvote.engines.gradients import Padded, check_vectorizable, padded
from gradvote.engines.simulation import Simulation
from gradvote.lab.experiments.claim import Bench, Cell, Numbers
from gradvote.lab.experiments.loop import SECONDS, UNUSED
from gradvote.lab.experiments.training import KEPT, setup_of, short
from gradvote.lab.train import checkpoint, metrics
from gradvote.lab.train.setup import Setup
from gradvote.layout import Layout
from gradvote.wire import HEADER_BYTES

CHUNK = 500
Change = Callable[[Algorithm], Algorithm]


def train_together(cells: Sequence[Cell], bench: Bench, change: Change | None = None) -> list[Numbers]:
    """Train runs that differ in `seed` and `lr` alone; for each what `training.train` gives.

    The same up to rounding and to which draws a run gets. Models whose forward pass changes buffers are refused.
    """
    return Sweep([setup_of(cell, change) for cell in cells]).run(bench)


class Sweep:
    """The runs of `setups`; `run` trains them to the last step."""

    def __init__(self, setups: Sequence[Setup]) -> None:
        self.setups, first = setups, setups[0]
        self.config, self.model = first.config, first.model
        check_vectorizable(self.model)
        if self.config.optimizer != "sgd" or self.config.weight_decay:
            raise ValueError("Runs are trained together by plain steps; leave out the optimizer and the weight decay.")
        copies = [p for p in self.model.parameters() for _ in setups]
        protocol = protocol_for(copies, first.protocol.algorithm, first.config.seed)
        self.engine = Simulation(protocol, first.config.workers, first.faults)
        self.order = _order(protocol.layout, len(setups))
        models = first.config.workers if self.engine.diverging else 1
        flat = torch.stack([nn.utils.parameters_to_vector(s.model.parameters()).detach() for s in setups])
        self.flat = flat[:, None].repeat(1, models, 1)
        self.whole = self._stacked([self._all(s) for s in setups])
        self.curves: list[dict[str, list[float | None]]] = [{key: [] for key in KEPT} for _ in setups]
        self.diverged = [False] * len(setups)
        self.step, self.stopped = 0, False

    def run(self, bench: Bench) -> list[Numbers]:
        """From the first step, or the last checkpoint, to the end; the curves, the bytes sent and how each run ended.

        SIGTERM or Ctrl-C ends it after its step, with KeyboardInterrupt; the checkpoint stays.
        """
        place, saved = bench.folder / "sweep.pt", time.monotonic()
        if place.is_file() and (state := checkpoint.load(place))["config"] == self._recipe:
            self.load(state)
        with signals_call(self.stop):
            for step in range(self.step, self.config.steps):
                losses, gradients = self.gradients(self._batches(step))
                if step % self.config.evaluate_every == 0:
                    self._look(step, (losses, gradients) if self._is_full else self.gradients(self.whole))
                bench.tell(step, self.config.steps, f"{len(self.setups)} runs at once")
                self._round(gradients, step)
                self.step = step + 1
                if self.stopped or time.monotonic() >= saved + SECONDS:
                    bench.folder.mkdir(parents=True, exist_ok=True)
                    checkpoint.save(self.state(), place)
                    saved = time.monotonic()
                if self.stopped:
                    raise KeyboardInterrupt
        self._look(self.config.steps, self.gradients(self.whole))
        return [
            {**curves, "bytes": sum(self._bytes()), "status": "diverged" if fell else "finished"}
            for curves, fell in zip(self.curves, self.diverged, strict=True)
        ]

    def stop(self) -> None:
        """Ask `run` to end after the step it is in, with a checkpoint."""
        self.stopped = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        own = {"step": self.step, "flat": self.flat, "curves": self.curves, "diverged": self.diverged}
        parts = {"config": self._recipe, "models": [], "optimizers": [], "engine": self.engine.state_dict()}
        return {**UNUSED, **parts, **own}

    @property
    def _recipe(self) -> str:
        return "\n".join(setup.config.to_json() for setup in self.setups)

    def load(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.step, self.flat, self.curves, self.diverged = (state[k] for k in ("step", "flat", "curves", "diverged"))
        self.engine.load_state_dict(state["engine"])

    def gradients(self, batches: Padded) -> tuple[Tensor, Tensor]:
        """Losses (R, M) and gradients (R, M, d) of the mean cross-entropy, parameter by parameter."""

        def loss_of(params: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
            losses = cross_entropy(functional_call(self.model, params, (x,)), y, reduction="none")
            return (losses * weight).sum() / weight.sum()

        own = self.engine.diverging
        of_runs = vmap(vmap(grad_and_value(loss_of), (0 if own else None, 0, 0, 0)))
        gradients, losses = of_runs(self._params() if own else self._params(0), *batches)
        return losses, torch.cat([g.flatten(2) for g in gradients.values()], -1)

    def _params(self, model: int | slice = slice(None)) -> dict[str, Tensor]:
        """The parameters of all models (R, K, ...), or those of one of them (R, ...)."""
        flat, named = self.flat[:, model], dict(self.model.named_parameters())
        parts = flat.split([p.numel() for p in named.values()], -1)
        return {k: x.unflatten(-1, p.shape) for (k, p), x in zip(named.items(), parts, strict=True)}

    def _round(self, gradients: Tensor, step: int) -> None:
        rates = [s.schedule(step, 0) for s in self.setups]
        arranged = gradients.transpose(0, 1).flatten(1).index_select(1, self.order)
        direction = self.engine.step(arranged, step, rates * len(list(self.model.parameters())))
        moves = torch.empty_like(self.flat.transpose(0, 1)).flatten(1)
        moves[:, self.order] = direction
        self.flat -= torch.tensor(rates)[:, None, None] * moves.unflatten(1, (len(rates), -1)).transpose(0, 1)

    @property
    def _is_full(self) -> bool:
        return all(batches.is_full for batches in self.setups[0].batches)

    def _batches(self, step: int) -> Padded:
        if self._is_full:
            return self.whole
        chosen = [[b.at(step) for b in s.batches] for s in self.setups]
        x, y = self.setups[0].data.train_x, self.setups[0].data.train_y
        return self._stacked([[(x[i], y[i]) for i in own] for own in chosen])

    def _all(self, setup: Setup) -> list[tuple[Tensor, Tensor]]:
        """All samples of each worker, or as many as are looked at."""
        limit = None if self._is_full else max(1, self.config.eval_samples // self.config.workers)
        return [(setup.data.train_x[part[:limit]], setup.data.train_y[part[:limit]]) for part in setup.parts]

    def _stacked(self, local: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> Padded:
        together = padded([batch for own in local for batch in own])
        return Padded(*(part.unflatten(0, (len(local), -1)) for part in together))

    def _look(self, step: int, known: tuple[Tensor, Tensor]) -> None:
        data, samples, bits = self.setups[0].data, self.config.eval_samples, self._bits()
        train = self._accuracies(data.train_x[:samples], data.train_y[:samples])
        test = self._accuracies(data.test_x[:samples], data.test_y[:samples])
        for r, setup in enumerate(self.setups):
            truth = metrics.truth(known[0][r], known[1][r], setup.shares)
            seen = {"step": step, **vars(truth), "train_accuracy": train[r], "test_accuracy": test[r], **bits}
            seen |= self._seen(r)
            for key, curve in self.curves[r].items():
                curve.append(short(seen[key]))
            self.diverged[r] |= not bool(torch.tensor([truth.loss, truth.grad_norm]).isfinite().all())

    def _seen(self, run: int) -> dict[str, float | None]:
        """What else is noted of a run."""
        return {}

    @torch.no_grad()
    def _accuracies(self, x: Tensor, y: Tensor) -> list[float]:
        """The share of samples that each run classifies rightly, the mean over its models."""
        logits = vmap(vmap(lambda params, x: functional_call(self.model, params, (x,)), (0, None)), (0, None))
        right = sum(
            (logits(self._params(), part).argmax(-1) == truth).sum((1, 2))
            for part, truth in zip(x.split(CHUNK), y.split(CHUNK), strict=True)
        )
        return [int(r) / (len(y) * self.flat.shape[1]) for r in torch.as_tensor(right)]

    def _bytes(self) -> tuple[float, float]:
        """Up and down, of one run: its part of the bodies, and headers of its own."""
        counts, runs, workers = self.engine.counts, len(self.setups), self.config.workers
        headers = HEADER_BYTES * workers * counts.steps
        return (counts.bytes_up - headers) / runs + headers, (counts.bytes_down - headers) / runs + headers

    def _bits(self) -> dict[str, float | None]:
        coordinates = self.engine.counts.steps * self.config.workers * self.engine.protocol.layout.size
        if not coordinates:
            return {"bits_up": None, "bits_down": None}
        up, down = (8 * sent * len(self.setups) / coordinates for sent in self._bytes())
        return {"bits_up": up, "bits_down": down}


def _order(layout: Layout, runs: int) -> Tensor:
    """Where each coordinate of the exchange stands among those of the runs (R, d), flattened."""
    sizes = list(layout.numels[::runs])
    rows = torch.arange(runs * sum(sizes)).view(runs, -1).split(sizes, 1)
    return layout.flatten([row for part in rows for row in part], torch.empty(layout.size, dtype=torch.int64))
