"""Language models as cells, on a text of the test's own."""

from pathlib import Path

import pytest
import torch

from gradvote.lab.data.shakespeare import Plays
from gradvote.lab.experiments import language, loop
from gradvote.lab.experiments.claim import Bench, Cell

CELL: Cell = {
    **{"algorithm": "noisy-signsgd", "options": {"noise_std": 1e-3}, "optimizer": "sgd", "lr": 0.03, "seed": 0},
    **{"workers": 2, "batch_size": 2, "steps": 20, "eval_every": 10},
    **{"context": 6, "width": 8, "layers": 1, "heads": 2},
}


@pytest.fixture(autouse=True)
def text(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = torch.tensor([0, 1, 2, 3]).repeat(50)
    parts = {"one": pattern, "two": pattern[:120], "three": pattern}
    monkeypatch.setattr(language, "_plays", lambda: Plays("abcd", parts, parts))


@pytest.mark.parametrize(("algorithm", "optimizer"), [("sgd", "adamw"), ("lion", "sgd"), ("dropsignsgd", "sgd")])
def test_it_learns_a_simple_text(algorithm: str, optimizer: str, tmp_path: Path) -> None:
    lr = 3.0 if algorithm == "dropsignsgd" else 0.03
    cell = {**CELL, "algorithm": algorithm, "options": {}, "optimizer": optimizer, "lr": lr}
    numbers = language.train(cell, Bench(tmp_path))
    assert numbers["step"] == [0, 10, 20] and not numbers["diverged"]
    assert numbers["loss"][-1] < 0.9 * numbers["loss"][0]
    assert numbers["bytes"][0] == 0 and numbers["bytes"][2] == pytest.approx(2 * numbers["bytes"][1], rel=0.02)


def test_one_bit_each_way(tmp_path: Path) -> None:
    numbers = language.train(CELL, Bench(tmp_path))
    bits = 8 * numbers["bytes"][-1] / (2 * 20 * numbers["parameters"])
    assert 2 <= bits < 5  # at this size headers and padding double it


def test_an_interrupted_cell_goes_on_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SECONDS", 0.0)

    def stop(step: int, steps: int, note: str) -> None:
        if (step, steps) == (7, 20):
            raise KeyboardInterrupt

    whole = language.train(CELL, Bench(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        language.train(CELL, Bench(tmp_path / "cut", stop))
    assert (tmp_path / "cut" / "checkpoint.pt").is_file()
    assert repr(language.train(CELL, Bench(tmp_path / "cut"))) == repr(whole)


def test_divergence_is_said(tmp_path: Path) -> None:
    numbers = language.train({**CELL, "algorithm": "sgd", "options": {}, "lr": 1e30}, Bench(tmp_path))
    assert numbers["diverged"] and numbers["step"][-1] < 20
