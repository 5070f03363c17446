"""Training runs as cells."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gradvote.aggregators import Median
from gradvote.core import Algorithm
from gradvote.lab.experiments.bucketing import Bucketing
from gradvote.lab.experiments.claim import Bench, Cell, Record
from gradvote.lab.experiments.training import (
    band,
    contrast,
    final,
    finals,
    learned,
    preferred,
    setup_of,
    standing,
    train,
    with_seeds,
)

CELL: Cell = {"algorithm": "noisy-signsgd", "samples": 10, "workers": 5, "steps": 6, "eval_every": 2, "lr": 0.01}


def _record(lr: float, accuracies: list[float | None], status: str = "finished", seed: int = 0) -> Record:
    steps = list(range(len(accuracies)))
    return Record({"lr": lr, "seed": seed}, {"test_accuracy": accuracies, "step": steps, "status": status}, 0.0)


def test_a_run_gives_curves_and_bytes(tmp_path: Path) -> None:
    numbers = train(CELL, Bench(tmp_path))
    assert numbers["step"] == [0, 2, 4, 6] and numbers["status"] == "finished"
    assert all(v is not None and 0 <= v <= 1 for v in numbers["test_accuracy"])
    assert numbers["bytes"] > 2 * 5 * 6 * 9610 / 8


def test_a_stopped_run_goes_on_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(CELL, Bench(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(CELL, Bench(tmp_path / "cut", _stop_at(2)))
    assert train(CELL, Bench(tmp_path / "cut")) == whole


def _stop_at(moment: int) -> Callable[[int, int, str], None]:
    def tell(step: int, steps: int, note: str) -> None:
        if step == moment:
            raise KeyboardInterrupt

    return tell


def test_a_part_of_the_algorithm_can_be_changed(tmp_path: Path) -> None:
    def grouped(algorithm: Algorithm) -> Algorithm:
        return replace(algorithm, aggregate=Bucketing(Median(), 2))

    cell = {**CELL, "algorithm": "mediansgd"}
    changed = train(cell, Bench(tmp_path / "a"), grouped)
    assert changed["loss"] != train(cell, Bench(tmp_path / "b"))["loss"]


def test_seeds_and_means_over_them() -> None:
    assert [c["seed"] for c in with_seeds([{"lr": 1}, {"lr": 2}], 2)] == [0, 1, 0, 1]
    records = [_record(0.1, [0.1, 0.5], seed=0), _record(0.1, [0.1, 0.7], seed=1)]
    assert finals(records).value == pytest.approx(0.6) and learned(records).value == pytest.approx(0.5)
    assert band(records, "test_accuracy")[1:] == ([0.1, pytest.approx(0.6)], [0.1, 0.5], [0.1, 0.7])
    assert contrast((1, records), (-0.5, records)).value == pytest.approx(0.3)
    assert [r["test_accuracy"] for r in standing(records)] == [[0.1, 0.1], [0.1, 0.1]]


def test_settings_are_preferred_by_what_the_validation_split_says() -> None:
    records = [
        Record({"b": b, "seed": 0}, {"test_accuracy": [test], "validation": seen, "status": "finished"}, 0.0)
        for b, test, seen in ((0.1, 0.9, 0.3), (0.2, 0.1, 0.4))
    ]
    assert [r["b"] for r in preferred(records, "b")] == [0.2]


@pytest.mark.parametrize("samples", [None, 20])
def test_splits_share_no_sample(samples: int | None) -> None:
    both = [setup_of({**CELL, "samples": samples, "split": split}).data for split in ("validation", "test")]
    plain = setup_of({**CELL, "samples": samples}).data
    assert torch.equal(both[0].train_x, both[1].train_x) and torch.equal(both[1].test_x, plain.test_x)
    known = {x.numpy().tobytes() for x in both[0].train_x} | {x.numpy().tobytes() for x in both[1].test_x}
    assert len(both[0].test_y) > 200 and both[0].test_y.bincount(minlength=10).min() >= 20
    twins = sum(x.numpy().tobytes() in known for x in both[0].test_x)
    assert twins == 0


def test_a_diverged_run_has_no_accuracy() -> None:
    assert final(_record(0.1, [0.3, 0.4], "diverged")) == 0
    assert final(_record(0.1, [0.3, None])) == 0.3
