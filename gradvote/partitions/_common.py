"""What every partition has in common: its type, the checks, and the table of who holds which classes."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Partition(Protocol):
    """A rule that gives each worker its samples: a frozen dataclass, one per file."""

    def __call__(self, labels: Tensor, num_workers: int, seed: int) -> list[Tensor]:
        """The sorted int64 sample indices of each worker, from the (N,) labels.

        A pure function of its arguments. Raises `ValueError` when no such split exists; no worker is ever
        left empty.
        """
        ...


def check(labels: Tensor, num_workers: int) -> NDArray[np.int64]:
    """The labels as a numpy array, after the checks that hold for every partition."""
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"The labels must be one vector of whole numbers, not {labels.dtype} of shape {tuple(labels.shape)}."
        )
    if num_workers < 1:
        raise ValueError(f"The number of workers is {num_workers}; at least 1 is needed.")
    if len(labels) < num_workers:
        raise ValueError(
            f"{len(labels)} samples cannot be split over {num_workers} workers without leaving one empty; "
            f"use at most {len(labels)} workers."
        )
    return labels.detach().cpu().numpy().astype(np.int64)


def check_none_empty(parts: Sequence[Tensor], mending: str) -> None:
    """Raise `ValueError` naming the first worker without samples; `mending` says what to do."""
    for worker, part in enumerate(parts):
        if len(part) == 0:
            raise ValueError(f"Worker {worker} of {len(parts)} would hold no samples. {mending}")


def as_part(indices: NDArray[np.int64]) -> Tensor:
    """One worker's indices as they are returned: int64 and sorted."""
    return torch.from_numpy(np.sort(indices))


def class_histogram(labels: Tensor, parts: Sequence[Tensor], num_classes: int) -> Tensor:
    """How many samples of each class each worker holds: (M, C) int64 for M parts and C classes."""
    rows = [torch.bincount(labels[part], minlength=num_classes) for part in parts]
    if any(len(row) > num_classes for row in rows):
        raise ValueError(f"The labels go up to {int(labels.max())}; with {num_classes} classes they must stay below.")
    return torch.stack(rows) if rows else torch.zeros(0, num_classes, dtype=torch.int64)
