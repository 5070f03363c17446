"""Gaussian points around one centre for each of a few classes: nothing to download."""

from pathlib import Path

import torch

from gradvote.lab.data import Data


def load(data_dir: str | Path | None = None, classes: int = 3, spread: float = 0.5) -> Data:
    """Forty samples of each class to train on and ten to test; ``data_dir`` is not read."""
    labels = torch.arange(classes).repeat(50)
    centres = torch.randn(classes, 2, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(1))
    x = centres[labels] + spread * noise
    names, cut = tuple(map(str, range(classes))), 40 * classes
    return Data("blobs", x[:cut], labels[:cut], x[cut:], labels[cut:], classes, names)
