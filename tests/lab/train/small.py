"""A run small enough to be repeated often: 120 digits of ten classes, a net of 602 parameters."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradvote.lab import data
from gradvote.lab.data import Data
from gradvote.lab.train import Config, Run, RunFolder, reopen, start

FACTORY = f"{__name__}:tiny"


def tiny(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """64-8-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))


def with_dropout(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, num_classes))


def with_batch_norm(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes))


class Partly(nn.Module):
    """A layer that the loss never reaches."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.unused, self.last = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x.flatten(1)).relu())
        return out


def partly_used(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return Partly(num_classes)


def explosive(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Not finite from the start."""
    net = tiny(input_shape, num_classes)
    net[1].weight.data.fill_(torch.nan)  # type: ignore[union-attr, operator]  # a Linear layer
    return net


def frozen(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return tiny(input_shape, num_classes).requires_grad_(False)


@cache
def samples() -> Data:
    """Twelve digits of each class to train on, four to test."""
    digits = data.load("digits")
    train = torch.cat([(digits.train_y == label).nonzero()[:12, 0] for label in range(10)])
    test = torch.cat([(digits.test_y == label).nonzero()[:4, 0] for label in range(10)])
    return Data(
        "digits",
        *(digits.train_x[train], digits.train_y[train], digits.test_x[test], digits.test_y[test]),
        10,
        digits.class_names,
    )


def config(algorithm: str = "signsgd", **options: Any) -> Config:
    plain: dict[str, Any] = {"model": FACTORY, "steps": 12, "eval_every": 3, "checkpoint_every": 4, "lr": 0.01}
    return Config(algorithm, **(plain | options))


def trained(folder: Path, until: int | None = None, /, **options: Any) -> Run:
    """A run trained to its end, or stopped after step `until`."""
    return finished(start(config(**options), folder, samples=samples()), until)


def reopened(folder: Path, chosen: Mapping[str, Any] | None = None, command: str = "") -> Run:
    """The run at its checkpoint; its factory, one of those here, is named by whoever asks for it."""
    about = RunFolder(folder)._about()
    return reopen(
        folder, chosen={"model": about["config"]["model"], **(chosen or {})}, command=command, samples=samples()
    )


def resumed(folder: Path, **chosen: Any) -> Run:
    return finished(reopened(folder, chosen))


def finished(run: Run, until: int | None = None) -> Run:
    run.train(lambda step, record: run.stop() if step == until and record is None else None)
    return run


def parameters(run: Run) -> Tensor:
    """Everything a model holds, buffers included, of all models."""
    return torch.cat([value.double().flatten() for model in run.models for value in model.state_dict().values()])


def records(run: Run) -> list[dict[str, Any]]:
    """The records, but for the time."""
    lines = run.place.records.read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def about(run: Run) -> dict[str, Any]:
    return dict(json.loads(run.place.about.read_text()))


def flat(state: Any) -> list[tuple[str, Any]]:
    """A nested state as pairs that can be compared."""
    if isinstance(state, dict):
        return [(f"{key}.{path}", leaf) for key, value in state.items() for path, leaf in flat(value)]
    if isinstance(state, list | tuple):
        return [(f"{i}.{path}", leaf) for i, value in enumerate(state) for path, leaf in flat(value)]
    return [("", state.tolist() if isinstance(state, Tensor) else state)]


def assert_same(one: Run, other: Run) -> None:
    """Bit for bit: parameters, optimizers, memories, counts and records."""
    assert torch.equal(parameters(one), parameters(other))
    for key in ("engine", "optimizers", "round"):
        found, expected = (flat(run._state()[key]) for run in (one, other))
        assert str(found) == str(expected), key
    assert str(records(one)) == str(records(other))
    assert one.status == other.status and one.step == other.step
