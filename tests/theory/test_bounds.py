"""The bounds as printed, by hand-computed instances; whether they hold is measured in the experiments."""

import math

import pytest
import torch

from gradvote import theory


def test_signsgd() -> None:
    chosen = theory.signsgd_prescription(steps=100, d=4, smoothness=2.0, drop=8.0)
    assert chosen == theory.Prescription(math.sqrt(8) / math.sqrt(800))
    bound = theory.signsgd_bound(steps=100, d=4, smoothness=2.0, drop=8.0, median_std=0.5, gap_l1=3.0)
    assert bound == pytest.approx(1.5 * 8 / 10 + 4 + 6)


def test_mediansgd() -> None:
    assert theory.mediansgd_prescription(steps=100, d=4, smoothness=2.0).lr == 0.05
    assert theory.mediansgd_prescription(steps=1, d=1, smoothness=2.0).lr == 0.25
    bound = theory.mediansgd_bound(steps=100, d=4, smoothness=2.0, drop=8.0, median_std=0.5, gap_squared=3.0)
    assert bound == pytest.approx(2 * 0.2 * 8 + 2 * 2 * 0.2 * 0.25 + 3)
    with pytest.raises(ValueError, match="T·d ≥ 4L²"):
        theory.mediansgd_bound(steps=1, d=1, smoothness=2.0, drop=1.0, median_std=0.0, gap_squared=0.0)


def test_noisy_prescriptions() -> None:
    assert theory.noisy_signsgd_prescription(steps=100, d=100) == theory.Prescription(0.01, pytest.approx(10))
    chosen = theory.noisy_mediansgd_prescription(steps=1000, d=1000)
    assert (chosen.lr, chosen.noise_std) == (pytest.approx(1e-4), pytest.approx(10))


def test_mixed_norm_turns_at_two_over_root_three() -> None:
    gradient = torch.tensor([[3.0, -1.0], [-1.0, 0.5]])
    assert theory.mixed_norm(gradient, 1.0).tolist() == [4.0, 1.25]
    assert theory.mixed_norm(gradient, torch.tensor([10.0, 0.1])).tolist() == pytest.approx([1.9, 0.6])


def test_one_worker_and_adversaries() -> None:
    assert theory.one_worker_prescription(steps=4, smoothness_l1=2.0, drop=8.0).lr == 1
    assert theory.one_worker_bound(steps=4, smoothness_l1=2.0, drop=8.0) == 6
    shared = {"steps": 4, "workers": 9, "smoothness_l1": 2.0, "drop": 8.0, "noise_l1": 3.0}
    assert theory.adversary_bound(share=0.0, **shared) == pytest.approx((1 + 4) ** 2)
    assert theory.adversary_bound(share=0.25, **shared) == pytest.approx((2 + 4) ** 2)
    with pytest.raises(ValueError, match="share of adversaries"):
        theory.adversary_bound(share=0.5, **shared)


def test_dropsign() -> None:
    assert theory.dropsign_lr(c=0.006, mu=0.9, smoothness=3.0) == pytest.approx(1e-5)
    with pytest.raises(ValueError, match="momentum"):
        theory.dropsign_lr(c=0.006, mu=1.0, smoothness=3.0)


def test_numbers_that_cannot_be_are_named() -> None:
    with pytest.raises(ValueError, match="smoothness must be positive"):
        theory.signsgd_prescription(steps=1, d=1, smoothness=0.0, drop=1.0)
