"""Linear models."""

import math
from collections.abc import Sequence

from torch import nn


def linear(input_shape: Sequence[int], num_classes: int, bias: bool = True) -> nn.Module:
    """One linear layer: softmax regression."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), num_classes, bias=bias))
