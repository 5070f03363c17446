"""Training runs as cells: the library's own loop on a part of a data set, resumable from its checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.gradients import trainable
from gradvote.lab import data
from gradvote.lab.data import Data
from gradvote.lab.experiments.claim import Bench, Cell, Numbers, Record
from gradvote.lab.experiments.statistics import Estimate, mean
from gradvote.lab.experiments.tuning import VALIDATION
from gradvote.lab.report import load_run
from gradvote.lab.train import Config, Run, RunFolder, checkpoint, prepare
from gradvote.lab.train.setup import Setup

HELD_OUT = 6
"""One of so many training samples is held out for choosing."""
CURVES = ("loss", "train_accuracy", "test_accuracy", "grad_norm", "median_mean_gap", "top1", "top5", "noise_std")
"""What a model shows, step by step."""
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
    `pool`, the side of the squares of pixels that become one, and `split`, on which the accuracy is measured:
    "validation", a part of the training set that nobody trains on, or "test". `change` may replace a part of the
    algorithm, `run_of` the run. Raises KeyboardInterrupt when the user stops it; the checkpoint stays.
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
    samples = _loaded(config.data, cell.get("samples"), cell.get("pool", 1), cell.get("split", ""))
    setup = prepare(config, samples)
    if change is None:
        return setup
    algorithm = change(setup.protocol.algorithm)
    return replace(setup, protocol=protocol_for(trainable(setup.model), algorithm, config.seed))


def short(value: float | None) -> float | None:
    """Six digits: records stand in the repository."""
    return None if value is None else float(f"{value:.6g}")


@lru_cache(maxsize=2)
def _loaded(name: str, samples: int | None, pool: int, split: str) -> Data:
    """A data set, or the first `samples` of each class of its training part, its images `pool` times smaller.

    With a `split` the last sixth of each class of the training part is held out of it; for "validation" it takes the
    place of the test part.
    """
    whole = data.load(name)
    if pool > 1:
        whole = replace(whole, train_x=avg_pool2d(whole.train_x, pool), test_x=avg_pool2d(whole.test_x, pool))
    if samples is None and not split:
        return whole
    classes = [(whole.train_y == c).nonzero()[:, 0] for c in range(whole.num_classes)]
    ends = [len(own) - (len(own) // HELD_OUT if split else 0) for own in classes]
    chosen = torch.cat([own[:end][:samples] for own, end in zip(classes, ends, strict=True)])
    if samples is None:
        chosen = chosen.sort().values
    kept = replace(whole, train_x=whole.train_x[chosen].contiguous(), train_y=whole.train_y[chosen])
    if split != VALIDATION:
        return kept
    held_out = torch.cat([own[end:] for own, end in zip(classes, ends, strict=True)]).sort().values
    return replace(kept, test_x=whole.train_x[held_out].contiguous(), test_y=whole.train_y[held_out])


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


def learned(records: Sequence[Record], key: str = "test_accuracy") -> Estimate:
    """The mean over seeds of how much higher a run ends than it began."""
    return mean([final(r, key) - r[key][0] for r in records])


def contrast(*weighted: tuple[float, Sequence[Record]]) -> Estimate:
    """The mean over seeds of a weighted sum of final accuracies, each of the same seed."""
    ends = [(weight, {r["seed"]: final(r) for r in records}) for weight, records in weighted]
    return mean([sum(weight * own[seed] for weight, own in ends) for seed in ends[0][1]])


def preferred(records: Sequence[Record], setting: str) -> list[Record]:
    """The records of the value of `setting` that did best on the validation split."""
    groups: dict[Any, list[Record]] = {}
    for r in records:
        groups.setdefault(r[setting], []).append(r)
    return max(groups.values(), key=lambda group: float(group[0][VALIDATION]))


def standing(records: Sequence[Record]) -> list[Record]:
    """What the same cells give without a single step: every curve stays where it was measured first."""
    return [
        replace(r, numbers={k: _first(v) if k in CURVES else v for k, v in r.numbers.items()} | {"status": "finished"})
        for r in records
    ]


def exchanged(records: Sequence[Record], setting: str, one: Any, other: Any) -> list[Record]:
    """The records with two values of a setting exchanged: each has the numbers of the other."""
    swap = {one: other, other: one}
    return [replace(r, cell={**r.cell, setting: swap.get(r.cell.get(setting), r.cell.get(setting))}) for r in records]


def _first(curve: Sequence[float | None]) -> list[float | None]:
    return [curve[0]] * len(curve)


def band(records: Sequence[Record], key: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Steps, and mean, lowest and highest over the seeds of a curve."""
    length = min(len(r[key]) for r in records)
    curves = torch.tensor([[_number(v) for v in r[key][:length]] for r in records], dtype=torch.float64)
    columns: tuple[Tensor, Tensor, Tensor] = curves.mean(0), curves.amin(0), curves.amax(0)
    centre, low, high = ([float(v) for v in c] for c in columns)
    return [float(s) for s in records[0]["step"][:length]], centre, low, high


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
