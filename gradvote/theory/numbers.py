"""What the functions of this room take: tensors, or what becomes one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = Tensor | NDArray[Any] | Sequence[Any]
"""A tensor, an array, or a sequence of numbers or of tensors of one shape: one entry for each worker."""


def as_tensor(given: Numbers) -> Tensor:
    """The tensor; sequences of numbers are float64.

    Raises:
        ValueError: these are no numbers, or of different shapes.
    """
    if isinstance(given, Tensor):
        return given
    try:
        if isinstance(given, Sequence) and any(isinstance(own, Tensor) for own in given):
            return torch.stack([torch.as_tensor(own) for own in given])
        return torch.as_tensor(np.asarray(given, dtype=np.float64))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"Numbers of one shape were expected, one entry for each worker (a tensor, an array or a sequence); got "
            f"{type(given).__name__}: {error}"
        ) from error
