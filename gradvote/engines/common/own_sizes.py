"""An optimizer that divides each direction by its own size makes the sizes vanish that a memory keeps account of."""

import warnings
from collections.abc import Iterator, Sequence

from torch.optim import Optimizer

DIVIDING = (
    "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "FusedAdam", "DeepSpeedCPUAdam", "Adam8bit", "AdamW8bit",
    "Adagrad", "Adadelta", "RMSprop", "Adafactor",
)  # fmt: skip
"""Optimizers, of torch or of that name elsewhere, that do."""
LOST = (
    "{name} stands behind an algorithm with error memory: it divides each direction by the direction's own size, so "
    "that the sizes which the algorithm sends are lost, all coordinates of a tensor move alike, and the memory counts "
    "on steps that nobody takes. Put a torch.optim.SGD there; gradvote.optim.sgd_for(optimizer, algorithm) makes the "
    "one that fits."
)


def warn_of_lost_sizes(optimizers: Sequence[Optimizer], remembers: bool, stacklevel: int) -> None:
    """Say that an optimizer does not fit an algorithm that `remembers` what is still to be sent."""
    found = next((name for own in optimizers for name in _names(own) if name in DIVIDING), None)
    if remembers and found is not None:
        warnings.warn(LOST.format(name=found), stacklevel=stacklevel + 1)


def _names(optimizer: Optimizer) -> Iterator[str]:
    """What an optimizer is, or what a wrapper (Accelerate's, ZeroRedundancyOptimizer) has inside."""
    inner = getattr(optimizer, "optimizer", getattr(optimizer, "optim", None))
    if isinstance(inner, Optimizer):
        yield from _names(inner)
    yield from (cls.__name__ for cls in type(optimizer).__mro__)
