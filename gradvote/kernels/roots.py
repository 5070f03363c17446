"""Square roots that are the same on every machine."""

import numpy as np
import torch
from torch import Tensor


def sqrt(x: Tensor) -> Tensor:
    """√x, rounded to nearest even as IEEE 754 asks; of a format that numpy has not by way of float32.

    On the CPU by numpy, which takes the processor's instruction: PyTorch hands large vectors to MKL, whose root is off
    by a last bit for one number in five, and for others on another processor.
    """
    if not x.is_cpu:
        return x.detach().sqrt()
    if x.dtype == torch.bfloat16:
        return sqrt(x.float()).to(x.dtype)
    with np.errstate(invalid="ignore"):  # of a negative number it is NaN
        return torch.from_numpy(np.sqrt(np.atleast_1d(x.detach().numpy()))).view(x.shape)
