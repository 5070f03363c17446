"""Rounds after local steps, on a language model: what each way to exchange them loses, at how many bytes.

    nice -n 15 python benchmarks/language_model.py                    the smallest model, in minutes to hours
    nice -n 15 python benchmarks/language_model.py --size small       0.8 million parameters, a night
    nice -n 15 python benchmarks/language_model.py --size large       4.8 million, at the best rates of 0.8 million
    python benchmarks/language_model.py --show                        the table and the plot of what is there

Five workers with their own plays of tiny Shakespeare (GRADVOTE_DATA names the folder), in the simulation, equal tokens:
every run has the same number of inner steps, whatever H. Each method is tuned on the same number of pairs of an inner
and an outer rate; then the best of each runs with one worker of five that inverts what it sends. What is done stands
in docs/figures/language-model.jsonl, and is not done again; runs begin with the middle of each grid, so that a table
can be shown at any time. The budget in hours of each size is in docs/local-steps.md.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW

from gradvote import algorithms, faults
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.gradients import set_gradients, trainable
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty
from gradvote.lab.data import shakespeare
from gradvote.lab.experiments.powersgd import PowerSGD
from gradvote.lab.models import Size, Transformer
from gradvote.lab.plan import bits_of
from gradvote.layout import Layout
from gradvote.transforms import Relative

WORKERS, SEED, LOOKS = 5, 0, 8
HERE = Path(__file__).resolve().parents[1] / "docs" / "figures"
RECORDS, PLOT = HERE / "language-model.jsonl", HERE / "language-model.svg"


class Scale(NamedTuple):
    """A model, and how long it is trained: `steps` of each worker's optimizer, on `batch` windows."""

    width: int
    layers: int
    context: int
    batch: int
    steps: int


SCALES = {
    "tiny": Scale(32, 2, 32, 8, 256),
    "small": Scale(128, 4, 128, 16, 2048),
    "large": Scale(256, 6, 128, 16, 4096),
}


class Method(NamedTuple):
    """A way to exchange rounds, its outer optimizer, and the outer rates that it is tuned on."""

    algorithm: Callable[[], Algorithm]
    momentum: float
    outer: tuple[float, float]


INNER = (3e-3, 1e-2)
"""Rates of AdamW inside, from which each method takes its best."""
EVERY_STEP = (1e-3, 3e-3, 1e-2, 3e-2)
METHODS = {
    "DiLoCo": Method(algorithms.diloco, 0.9, (0.3, 0.7)),
    "dist-EF, 1 bit": Method(lambda: algorithms.dist_ef_sgdm(mu=0.0), 0.9, (0.3, 0.7)),
    "sized noisy vote, 1 bit": Method(
        lambda: algorithms.noisy(algorithms.sized_signsgd(), Relative(0.05), position="vote"), 0.9, (0.1, 0.3)
    ),
    "SparseLoCo": Method(algorithms.sparseloco, 0.0, (0.5, 1.0)),
    "DiLoCo int8": Method(lambda: algorithms.diloco("int8"), 0.9, (0.3, 0.7)),
    "noisy vote, 1 bit, one size for all": Method(
        lambda: algorithms.noisy(algorithms.signsgd(), Relative(0.05), position="vote"), 0.9, (3e-4, 1e-3)
    ),
}


def cells(scale: str) -> list[dict[str, Any]]:
    """All runs without a fault, those first whose rates are likelier; the largest model has the best rates of 0.8M."""
    keys, found = ("method", "every", "inner", "outer"), []
    if scale == "large":
        return [{"scale": scale, "fault": 0.0, **{k: r[k] for k in keys}} for r in best_of(load(), "small").values()]
    for pair in range(4):
        inner, outer = INNER[pair % 2], pair // 2 ^ 1
        for every in (8, 32):
            for name, method in METHODS.items():
                found.append({"method": name, "every": every, "inner": inner, "outer": method.outer[outer]})
        for name in ("AdamW every step", "PowerSGD-1 every step"):
            found.append({"method": name, "every": 1, "inner": EVERY_STEP[(pair + 1) % 4], "outer": 0.0})
    return [{"scale": scale, "fault": 0.0, **cell} for cell in found]


def faulty_cells(records: list[dict[str, Any]], scale: str) -> list[dict[str, Any]]:
    """The best of each method at H = 32, with a worker that sends minus what it has, once and ten times."""
    best = best_of(records, scale)
    keys = ("scale", "method", "every", "inner", "outer")
    chosen = [{k: r[k] for k in keys} for (_, every), r in best.items() if every == 32]
    return [{**cell, "fault": factor} for factor in (1.0, 10.0) for cell in chosen]


def best_of(records: list[dict[str, Any]], scale: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The record of the lowest last loss by method and H, without faults."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for r in records:
        key = r["method"], r["every"]
        if r["scale"] == scale and not r["fault"] and (key not in found or r["loss"][-1] < found[key]["loss"][-1]):
            found[key] = r
    return found


class Reading:
    """The workers' windows of their own plays, and the held-out parts of all plays."""

    def __init__(self, scale: Scale) -> None:
        self.scale, plays = scale, shakespeare.load()
        hands = shakespeare.dealt(plays.train, WORKERS)
        self.texts = [torch.cat([plays.train[name] for name in hand]) for hand in hands]
        self.held_out, self.alphabet = torch.cat(list(plays.held_out.values())), plays.alphabet

    def batches(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """Of all workers, in a step of theirs."""
        return [self._windows(text, self._starts(text, i, step)) for i, text in enumerate(self.texts)]

    def model(self) -> Transformer:
        """The model at its start."""
        torch.manual_seed(SEED)
        s = self.scale
        return Transformer(Size(len(self.alphabet), s.context, s.width, s.layers, heads=4))

    @torch.no_grad()
    def loss(self, model: nn.Module) -> float:
        """In nats per character, on 64 windows spread evenly over the held-out text."""
        starts = torch.linspace(0, len(self.held_out) - self.scale.context - 1, 64).long()
        x, y = self._windows(self.held_out, starts)
        return float(cross_entropy(model(x), y))

    def _starts(self, text: Tensor, worker: int, step: int) -> Tensor:
        draws = np.random.default_rng((SEED, worker, step))
        return torch.from_numpy(draws.integers(0, len(text) - self.scale.context - 1, self.scale.batch))

    def _windows(self, text: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        window = text[starts[:, None] + torch.arange(self.scale.context + 1)]
        return window[:, :-1], window[:, 1:]


@lru_cache(maxsize=1)
def _reading(scale: Scale) -> Reading:
    return Reading(scale)


class Workers:
    """The parameters of all workers as one matrix (M, d), in the layout's order, and their gradients at once."""

    def __init__(self, reading: Reading, model: nn.Module) -> None:
        self.reading, self.model, self.params = reading, model, trainable(model)
        self.names = [name for name, _ in model.named_parameters()]
        self.protocol = protocol_for(self.params, algorithms.sgd(), SEED)
        places = [torch.zeros(p.numel(), dtype=torch.int64) for p in self.params]
        self.protocol.layout.unflatten(torch.arange(self.protocol.layout.size), places)
        self.places = places
        self._gradient = vmap(grad(self._loss), in_dims=(0, 0, 0))

    def start(self) -> Tensor:
        """The model's parameters, once for each worker."""
        flat = torch.zeros(self.protocol.layout.size)
        for place, p in zip(self.places, self.params, strict=True):
            flat[place] = p.detach().flatten()
        return flat.repeat(WORKERS, 1)

    def gradients(self, flat: Tensor, step: int) -> Tensor:
        """Of each worker at its own parameters, on its batch of this step."""
        pairs = self.reading.batches(step)
        with sdpa_kernel(SDPBackend.MATH):
            found: Tensor = self._gradient(flat, *(torch.stack(column) for column in zip(*pairs, strict=True)))
        return found

    def _loss(self, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        shaped = zip(self.names, self.places, self.params, strict=True)
        return cross_entropy(functional_call(self.model, {n: flat[i].view_as(p) for n, i, p in shaped}, (x,)), y)


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """One training run: the held-out loss against inner steps, and what each worker sends in all."""
    scale, started = SCALES[cell["scale"]], time.process_time()
    reading = _reading(scale)
    model = reading.model()
    points: dict[str, list[float]] = {"step": [0], "loss": [round(reading.loss(model), 4)]}
    advance, sent = (_every_step if cell["every"] == 1 else _local)(cell, Workers(reading, model))
    every, look = cell["every"], max(1, scale.steps // LOOKS)
    for step in range(0, scale.steps, every):
        advance(step)
        if (step + every) // look > step // look:
            points["step"].append(step + every)
            points["loss"].append(round(reading.loss(model), 4))
            if not points["loss"][-1] < 10:
                break
    rounds = scale.steps // every
    seconds = round(time.process_time() - started, 1)
    return {**cell, **points, "megabytes": round(sent * rounds / 1e6, 5), "seconds": seconds}


def _local(cell: dict[str, Any], workers: Workers) -> tuple[Callable[[int], None], float]:
    method, every, params = METHODS[cell["method"]], cell["every"], workers.params
    algorithm = method.algorithm()
    protocol = protocol_for(params, algorithm, SEED)
    lies = [Faulty(faults.create("rescale", factor=-cell["fault"]), "worker", workers=(4,))] if cell["fault"] else []
    simulation = Simulation(protocol, WORKERS, lies)
    own = nn.Parameter(workers.start())
    inner = AdamW([own], cell["inner"])
    outer = SGD(params, cell["outer"], momentum=method.momentum, nesterov=method.momentum > 0)

    def advance(step: int) -> None:
        start = workers.start()
        with torch.no_grad():
            own.copy_(start)
        for k in range(every):
            own.grad = workers.gradients(own.detach(), step + k)
            inner.step()
        ways = _in_order(start - own.detach(), workers.places, protocol.layout)
        direction = simulation.step(ways, step // every, cell["outer"])
        set_gradients(params, protocol.layout, direction, simulation.decided[0])
        outer.step()

    return advance, sent_by_each(algorithm, protocol.layout.size)


def _in_order(flat: Tensor, places: list[Tensor], layout: Layout) -> Tensor:
    """Rows of the workers' layout in that of an algorithm with blocks of another size."""
    rows = [[row[place] for place in places] for row in flat]
    return torch.stack([layout.flatten(own, out=torch.empty(layout.size)) for own in rows])


def _every_step(cell: dict[str, Any], workers: Workers) -> tuple[Callable[[int], None], float]:
    layout, shapes = workers.protocol.layout, tuple(p.shape for p in workers.params)
    powers = cell["method"].startswith("PowerSGD")
    engine: Any = PowerSGD(layout, shapes, WORKERS, mu=0.0) if powers else Simulation(workers.protocol, WORKERS)
    optimizer = AdamW(workers.params, cell["inner"])

    def advance(step: int) -> None:
        direction = engine.step(workers.gradients(workers.start(), step), step, 1.0)
        set_gradients(workers.params, layout, direction, engine.decided[0])
        optimizer.step()

    if not powers:
        return advance, sent_by_each(algorithms.sgd(), layout.size)
    numbers = sum(p.numel() if p.dim() < 2 else p.shape[0] + p[0].numel() for p in workers.params)
    return advance, 2 * (WORKERS - 1) / WORKERS * 4 * numbers


def sent_by_each(algorithm: Algorithm, d: int) -> float:
    """Bytes that each worker sends in a round, where the server stands so that they are fewest."""
    up, down = bits_of(algorithm)
    return min((WORKERS - 1) / WORKERS * (up + down), (WORKERS - 1) * up) * d / 8


def load() -> list[dict[str, Any]]:
    """The records that there are."""
    return [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.is_file() else []


def measure(scale: str) -> None:
    """Whatever is missing, one run after another."""
    for make in (lambda: cells(scale), lambda: faulty_cells(load(), scale)):
        for cell in make():
            known = load()
            if any(all(r[k] == v for k, v in cell.items()) for r in known):
                continue
            record = run(cell)
            with RECORDS.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(f"{cell} -> {record['loss'][-1]:.3f}, {record['seconds']} s", flush=True)


def table(records: list[dict[str, Any]], scale: str) -> str:
    """The best of each method, as a table in Markdown."""
    lines = ["| method | H | held-out loss | MB sent by each worker | inner, outer rate | runs |", "|---" * 6 + "|"]
    for (name, every), r in sorted(best_of(records, scale).items(), key=lambda pair: pair[1]["loss"][-1]):
        tried = sum((o["scale"], o["method"], o["every"], o["fault"]) == (scale, name, every, 0.0) for o in records)
        rates = f"{r['inner']:g}, {r['outer']:g}" if every > 1 else f"{r['inner']:g}"
        lines.append(f"| {name} | {every} | {r['loss'][-1]:.3f} | {r['megabytes']:.3g} | {rates} | {tried} |")
    for r in (r for r in records if r["scale"] == scale and r["fault"]):
        lines.append(
            f"| {r['method']}, one of five inverts ×{r['fault']:g} | {r['every']} | {r['loss'][-1]:.3f} | | | 1 |"
        )
    return "\n".join(lines)


def draw(records: list[dict[str, Any]], scale: str) -> None:
    """Loss against bytes, of the best of each method."""
    from matplotlib import pyplot as plt  # noqa: PLC0415  # a run without --show does not need it

    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    for every, marker in ((1, "s"), (8, "o"), (32, "^")):
        for (name, own), r in best_of(records, scale).items():
            if own == every:
                axes.plot(r["megabytes"], r["loss"][-1], marker, color="C0" if "bit" in name else "0.4")
                axes.annotate(f" {name}, H = {every}", (r["megabytes"], r["loss"][-1]), fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("MB sent by each worker in the whole run")
    axes.set_ylabel("held-out loss, nats per character")
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SCALES, default="tiny", help="the model and the length of a run")
    parser.add_argument("--show", action="store_true", help="measure nothing; the table, and the plot of what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.show:
        measure(arguments.size)
    print(table(load(), arguments.size))
    draw(load(), arguments.size)


if __name__ == "__main__":
    main()
