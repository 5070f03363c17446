"""60,000 colour photographs of 32x32 pixels in ten classes (Krizhevsky 2009), from the binary batches.

The training batches that are present are used (at least one of five). Pixels are scaled to [0, 1], then each
colour is shifted and scaled by its mean and standard deviation over all 50,000 training images. Samples are
(3, 32, 32). A batch is a whole number of rows: one label byte, then 1024 red, 1024 green and 1024 blue bytes,
row by row.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradvote.lab.data.dataset import Data
from gradvote.lab.data.folders import Files

ROW = 1 + 3 * 32 * 32
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = Files(
    name="cifar10",
    subfolders=(".", "cifar-10-batches-bin", "cifar10"),
    groups=(tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",)),
    origin="the authors' page 'The CIFAR-10 dataset' by Krizhevsky, Nair and Hinton, the archive 'CIFAR-10 "
    "binary version (suitable for C programs)' (about 160 MB), unpacked",
)


def load(data_dir: str | Path | None = None) -> Data:
    """CIFAR-10, from the batches found. Raises `ValueError` for a file that is not such a batch."""
    train_files, test_files = FILES.locate(data_dir)
    train_x, train_y = _samples(train_files)
    test_x, test_y = _samples(test_files)
    return Data("cifar10", train_x, train_y, test_x, test_y, 10, CLASSES)


def _samples(files: list[Path]) -> tuple[Tensor, Tensor]:
    for file in files:
        _check_size(file)
    rows = np.concatenate([_rows(file) for file in files])
    x = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return x.div_(255).sub_(mean).div_(std), torch.from_numpy(rows[:, 0].astype(np.int64))


def _check_size(file: Path) -> None:
    size = file.stat().st_size
    if size == 0 or size % ROW:
        raise ValueError(
            f"{file} has {size} bytes, which is not a whole number of CIFAR-10 rows of {ROW} bytes; it is "
            "truncated or another kind of file, fetch it again (the binary version, not the Python one)."
        )


def _rows(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    rows = np.fromfile(file, dtype=np.uint8).reshape(-1, ROW)
    if rows[:, 0].max() >= len(CLASSES):
        raise ValueError(
            f"{file} is not a CIFAR-10 batch: the label of row {rows[:, 0].argmax()} is {rows[:, 0].max()}, "
            "expected 0..9; fetch it again (the binary version of CIFAR-10)."
        )
    return rows
