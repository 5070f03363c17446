"""b measured while training."""

from functools import partial
from pathlib import Path

import pytest
import torch

from gradvote.lab.experiments.adaptive import AdaptiveRun, AdaptiveSweep, Rule
from gradvote.lab.experiments.claim import Bench, Cell, Numbers
from gradvote.lab.experiments.training import KEPT, setup_of, train
from gradvote.theory import noise_from_gap

CELL: Cell = {"algorithm": "signsgd", "samples": 10, "workers": 5, "steps": 12, "eval_every": 3, "lr": 0.01}


def adaptive(bench: Bench, rule: Rule, every: int = 3) -> Numbers:
    kept = (*KEPT, "noise_std")
    return train(CELL, bench, run_of=lambda setup, place: AdaptiveRun(setup, place, rule, every), kept=kept)


def test_a_constant_rule_is_the_fixed_noise(tmp_path: Path) -> None:
    fixed = {**CELL, "algorithm": "noisy-signsgd", "options": {"noise_std": 0.01}}
    expected = train(fixed, Bench(tmp_path / "fixed"))
    found = adaptive(Bench(tmp_path / "rule"), lambda gradients: 0.01)
    assert found.pop("noise_std") == [0.0, 0.01, 0.01, 0.01, 0.01]
    assert found == expected


def test_the_rule_sees_the_gradients_at_its_steps(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    def rule(gradients: torch.Tensor) -> float:
        seen.append(gradients.clone())
        return 0.1 * len(seen)

    numbers = adaptive(Bench(tmp_path), rule, every=5)
    assert [g.shape[0] for g in seen] == [5, 5, 5] and not torch.equal(seen[0], seen[1])
    assert numbers["noise_std"] == pytest.approx([0.0, 0.1, 0.2, 0.2, 0.3])


def test_an_interrupted_run_goes_on_with_its_noise(tmp_path: Path) -> None:
    def stop(step: int, steps: int, note: str) -> None:
        if step == 6:
            raise KeyboardInterrupt

    rule = partial(noise_from_gap, factor=2.0)
    whole = adaptive(Bench(tmp_path / "whole"), rule, every=5)
    with pytest.raises(KeyboardInterrupt):
        adaptive(Bench(tmp_path / "cut", stop), rule, every=5)
    assert adaptive(Bench(tmp_path / "cut"), rule, every=5) == whole
    assert whole["noise_std"][-1] > 0


def test_runs_together_have_a_b_each(tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def rule(gradients: torch.Tensor) -> float:
        seen.append(tuple(gradients.shape))
        return (1e-3, 1e3)[(len(seen) - 1) % 2]

    setups = [setup_of({**CELL, "seed": 0}) for _ in range(2)]
    quiet, loud = AdaptiveSweep(setups, rule, every=5).run(Bench(tmp_path))
    assert seen == [(5, 9610)] * 6
    assert quiet["noise_std"] == pytest.approx([0.0, 1e-3, 1e-3, 1e-3, 1e-3])
    assert loud["noise_std"] == pytest.approx([0.0, 1e3, 1e3, 1e3, 1e3])
    assert quiet["loss"][-1] < loud["loss"][-1] - 0.1
