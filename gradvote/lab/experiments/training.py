"""Training runs as cells: the library's own loop on a part of a data set, resumable from its checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gradvote.core import Algorithm
from gradvote.engines.gradients import trainable
from gradvote.engines.protocol import protocol_for
from gradvote.lab import data
from gradvote.lab.data import Data
from gradvote.lab.experiments.claim import Bench, Cell, Numbers, Record
from gradvote.lab.experiments.statistics import Estimate, mean
from gradvote.lab.report import load_run
from gradvote.lab.train import Config, Run, RunFolder, checkpoint, prepare
from gradvote.lab.train.setup import Setup

KEPT = ("step", "loss", "train_accuracy", "test_accuracy", "grad_norm", "median_mean_gap", "bits_up", "bits_down")


def train(
    cell: Cell,
    bench: Bench,
    change: Callable[[Algorithm], Algorithm] | None = None,
    run_of: Callable[[Setup, RunFolder], Run] = Run,
    kept: Sequence[str] = KEPT,
) -> Numbers:
    """Train as the cell says, and give the curves `kept`, the bytes sent and how it ended.

    A cell has fields of `Config`, and may have `samples`, the number of training samples per class (all by default),
    and `pool`, the side of the squares of pixels that become one. `change` may replace a part of the algorithm,
    `run_of` the run. Raises KeyboardInterrupt when the user stops it; the checkpoint stays.
    """
    run = run_of(setup_of(cell, change), RunFolder(bench.folder))
    if run.place.checkpoint.is_file():
        run.resume(checkpoint.load(run.place.checkpoint))
    else:
        run.check(overwrite=True)
        run.open()
    run.train(lambda step, record: bench.tell(step, cell["steps"], ""))
    if run.status == "interrupted":
        raise KeyboardInterrupt
    records = load_run(bench.folder).records
    curves: dict[str, list[float | None]] = {key: [short(r.get(key)) for r in records] for key in kept}
    return {**curves, "bytes": run.engine.counts.bytes_up + run.engine.counts.bytes_down, "status": run.status}


def setup_of(cell: Cell, change: Callable[[Algorithm], Algorithm] | None = None) -> Setup:
    """What the run of a cell needs."""
    known = {f.name for f in fields(Config)}
    config = Config(**{key: value for key, value in cell.items() if key in known})
    setup = prepare(config, _loaded(config.data, cell.get("samples"), cell.get("pool", 1)))
    if change is None:
        return setup
    algorithm = change(setup.protocol.algorithm)
    return replace(setup, protocol=protocol_for(trainable(setup.model), algorithm, config.seed))


def short(value: float | None) -> float | None:
    """Six digits: records stand in the repository."""
    return None if value is None else float(f"{value:.6g}")


@lru_cache(maxsize=2)
def _loaded(name: str, samples: int | None, pool: int) -> Data:
    """A data set, or the first `samples` of each class of its training part, its images `pool` times smaller."""
    whole = data.load(name)
    if pool > 1:
        whole = replace(whole, train_x=avg_pool2d(whole.train_x, pool), test_x=avg_pool2d(whole.test_x, pool))
    if samples is None:
        return whole
    chosen = torch.cat([(whole.train_y == c).nonzero()[:samples, 0] for c in range(whole.num_classes)])
    return replace(whole, train_x=whole.train_x[chosen].contiguous(), train_y=whole.train_y[chosen])


def with_seeds(cells: Sequence[Cell], seeds: int) -> list[Cell]:
    """Every cell once for each seed."""
    return [{**cell, "seed": seed} for cell in cells for seed in range(seeds)]


def final(record: Record, key: str = "test_accuracy") -> float:
    """The last value of a curve; 0 for an accuracy of a run that diverged."""
    if record["status"] == "diverged" and key.endswith("accuracy"):
        return 0.0
    return next((v for v in reversed(record[key]) if v is not None), float("nan"))


def finals(records: Sequence[Record], key: str = "test_accuracy") -> Estimate:
    """The mean over seeds of the last values."""
    return mean([final(r, key) for r in records])


def gain(records: Sequence[Record], others: Sequence[Record], key: str = "test_accuracy") -> Estimate:
    """The mean over seeds of how much higher a run ends than the other of the same seed."""
    theirs = {r["seed"]: final(r, key) for r in others}
    return mean([final(r, key) - theirs[r["seed"]] for r in records])


def best(records: Sequence[Record], setting: str = "lr") -> list[Record]:
    """The records of the value of `setting` whose mean final test accuracy is highest: tuned on the same data."""
    groups: dict[Any, list[Record]] = {}
    for r in records:
        groups.setdefault(r[setting], []).append(r)
    return max(groups.values(), key=lambda group: finals(group).value)


def band(records: Sequence[Record], key: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Steps, and mean, lowest and highest over the seeds of a curve."""
    length = min(len(r[key]) for r in records)
    curves = torch.tensor([[_number(v) for v in r[key][:length]] for r in records], dtype=torch.float64)
    columns: tuple[Tensor, Tensor, Tensor] = curves.mean(0), curves.amin(0), curves.amax(0)
    centre, low, high = ([float(v) for v in c] for c in columns)
    return [float(s) for s in records[0]["step"][:length]], centre, low, high


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
