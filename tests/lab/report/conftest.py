"""Run folders as the trainer writes them, made up."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gradvote.lab.report import Run, load_run

WriteRun = Callable[..., Path]


def record(step: int, **changes: object) -> dict[str, object]:
    return {
        "step": step,
        "loss": 2.0 / (1 + step),
        "train_accuracy": 0.9,
        "test_accuracy": min(0.974, 0.1 + step / 50),
        "grad_norm": 0.031,
        "median_mean_gap": 0.2,
        "bytes_up": 600 * step,
        "bytes_down": 600 * step,
        "bits_up": 1.02,
        "bits_down": 1.02,
        "seconds": 0.1 * step,
        "abstentions": 0,
        "ties": 1,
        "drift": 0.0,
        "lr": 1e-3,
        "something_new": {"nested": [1, 2]},
    } | changes


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write a healthy run of 51 records; `records` replaces them, anything else replaces a key of run.json."""

    def write(name: str, records: list[dict[str, object]] | None = None, /, **changes: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        about = {
            "name": name,
            "label": name,
            "algorithm": f"Algorithm({name!r})",
            "command": f"gradvote train --algorithm {name}",
            "config": {"lr": 1e-3, "workers": 3},
            "seed": 7,
            "versions": {"gradvote": "0.1.0"},
            "hardware": "2 cores",
            "num_parameters": 1600,
            "num_workers": 3,
            "class_histogram": [[5, 0], [0, 5], [2, 3]],
            "class_names": ["cat", "dog"],
            "status": "finished",
            "message": "",
            "faults": "",
            "abstentions_by_worker": [0, 0, 0],
        } | changes
        lines = [record(step) for step in range(0, 501, 10)] if records is None else records
        (folder / "run.json").write_text(json.dumps(about))
        (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return write


@pytest.fixture
def make_run(write_run: WriteRun) -> Callable[..., Run]:
    return lambda *args, **changes: load_run(write_run(*args, **changes))


@pytest.fixture
def diverged(make_run: Callable[..., Run]) -> Run:
    """Climbs from step 20, overflows at 30, is NaN at 40."""
    records = [record(step) for step in (0, 10)]
    records += [record(20, loss=1e30, grad_norm=1e200), record(30, loss=math.inf, grad_norm=math.inf)]
    records += [record(40, loss=math.nan, grad_norm=math.nan, median_mean_gap=None, test_accuracy=0.1)]
    return make_run("lost", records, status="diverged", message="The loss is not finite.")
