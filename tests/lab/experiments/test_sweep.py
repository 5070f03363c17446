"""Runs trained together are the runs trained one by one."""

from pathlib import Path

import pytest

from gradvote.lab.experiments.claim import Bench, Cell
from gradvote.lab.experiments.sweep import Sweep, train_together
from gradvote.lab.experiments.training import setup_of, train

CELL: Cell = {"samples": 12, "workers": 3, "steps": 6, "eval_every": 3}
INVERTED = {"fault": "invert", "place": "both", "num": 1, "redraw": True}


@pytest.mark.parametrize(
    "own",
    [
        {"algorithm": "sgd", "batch_size": 5},
        {"algorithm": "mediansgd", "schedule": "cosine"},
        {"algorithm": "signsgd", "options": {"zero": "abstain"}},
        {"algorithm": "signsgd", "options": {"zero": "abstain"}, "faults": [INVERTED], "batch_size": 5},
        {"algorithm": "dist-ef-sgdm", "options": {"zero": "abstain"}, "schedule": "step"},
    ],
    ids=["mean", "median", "vote", "models that differ", "memories"],
)
def test_together_or_one_by_one(own: Cell, tmp_path: Path) -> None:
    cells: list[Cell] = [{**CELL, **own, "seed": seed, "lr": lr} for seed in (0, 1) for lr in (0.003, 0.1)]
    if "faults" in own:
        cells = [{**cell, "seed": 1} for cell in cells[:2]]  # who is faulty is drawn from the first run's seed
    together = train_together(cells, Bench(tmp_path))
    for i, cell in enumerate(cells):
        alone = train(cell, Bench(tmp_path / str(i)))
        assert alone.keys() == together[i].keys() and alone["status"] == together[i]["status"] == "finished"
        for key in ("step", "loss", "train_accuracy", "test_accuracy", "grad_norm", "median_mean_gap"):
            assert together[i][key] == pytest.approx(alone[key], rel=1e-3, abs=1e-4)
        assert together[i]["bytes"] == pytest.approx(alone["bytes"], rel=0.002)
        assert together[i]["bits_up"][-1] == pytest.approx(alone["bits_up"][-1], rel=0.002)


def test_runs_have_draws_of_their_own(tmp_path: Path) -> None:
    cell = {**CELL, "algorithm": "noisy-signsgd", "options": {"noise_std": 1.0}, "lr": 0.01, "seed": 0}
    one, other = train_together([cell, cell], Bench(tmp_path))
    assert one["loss"][0] == other["loss"][0] and one["loss"][-1] != other["loss"][-1]


def test_a_sweep_that_is_stopped_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    cells = [{**CELL, "algorithm": "dist-ef-sgdm", "seed": seed, "lr": 0.1, "batch_size": 5} for seed in (0, 1)]
    whole, stopped = train_together(cells, Bench(tmp_path / "whole")), Sweep([setup_of(cell) for cell in cells])

    def tell(step: int, steps: int, note: str) -> None:
        if step == 3:
            stopped.stop()

    with pytest.raises(KeyboardInterrupt):
        stopped.run(Bench(tmp_path / "cut", tell))
    seen: list[int] = []
    again = train_together(cells, Bench(tmp_path / "cut", lambda step, steps, note: seen.append(step)))
    assert again == whole and seen == [4, 5]
    other = [{**cell, "lr": 0.2} for cell in cells]
    train_together(other, Bench(tmp_path / "cut", lambda step, steps, note: seen.append(step)))
    assert seen[2:] == [0, 1, 2, 3, 4, 5], "what another recipe left is not gone on with"


def test_a_run_that_diverges_does_so_alone(tmp_path: Path) -> None:
    cells = [{**CELL, "algorithm": "sgd", "lr": lr, "seed": 0} for lr in (1e30, 0.1)]
    fell, went_on = train_together(cells, Bench(tmp_path))
    assert (fell["status"], went_on["status"]) == ("diverged", "finished")
    assert went_on["loss"][-1] < went_on["loss"][0]


def test_what_cannot_be_trained_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain steps"):
        train_together([{**CELL, "algorithm": "sgd", "weight_decay": 0.1}], Bench(tmp_path))
