"""Nets for claims, named as `gradvote.lab.experiments.nets:NAME`."""

from collections.abc import Sequence

from torch import nn

from gradvote.lab.models.nets import mlp


def deep(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Three hidden layers of 64."""
    return mlp(input_shape, num_classes, (64, 64, 64))
