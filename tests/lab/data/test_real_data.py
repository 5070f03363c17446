"""The real data sets, where their folder exists: counts and facts that anybody can check."""

from pathlib import Path

import pytest
import torch

from gradvote.lab.data import DataNotFoundError, load

ROOT = Path(__file__).parents[3]


def real(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        return load(name)
    except DataNotFoundError:
        pytest.skip(f"the files of {name} are neither in GRADVOTE_DATA nor in ../shared/data")


def test_mnist(monkeypatch):
    data = real("mnist", monkeypatch)
    assert data.train_x.shape == (60_000, 1, 28, 28) and data.test_x.shape == (10_000, 1, 28, 28)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.train_y).tolist() == counts
    assert data.train_y[:5].tolist() == [5, 0, 4, 1, 9] and data.test_y[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(data.train_x.mean().item() - 0.1307) < 1e-4


def test_cifar10(monkeypatch):
    data = real("cifar10", monkeypatch)
    assert len(data.train_y) % 10_000 == 0 and data.input_shape == (3, 32, 32)
    assert [data.class_names[y] for y in data.test_y[:4]] == ["cat", "ship", "ship", "airplane"]
    assert data.train_x.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert (data.train_x.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02
