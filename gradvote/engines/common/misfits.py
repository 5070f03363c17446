"""Optimizers and layers that a vote would ruin in silence: they need gradients themselves, or the sizes of steps."""

import warnings
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim import LBFGS, Optimizer

from gradvote.core import Algorithm, Codec, Context
from gradvote.staging import CPU

DIFFERENCES = (
    "LBFGS learns the curvature of the loss from differences of gradients, {why}: it hardly moves, or diverges. Use "
    "torch.optim.SGD or AdamW{mend}."
)
OF_SIGNS = "and those of directions such as signs tell nothing of it"
MOVED = "and a round of local steps moves the model in between"
CONSTANTS = (
    "The layer {name!r} is kept orthogonal by Householder reflections (torch.nn.utils.parametrizations.orthogonal): "
    "its parameter holds numbers 1 and -1 whose gradient is exactly zero. This algorithm sends a sign of zeros, too, "
    "which would move them, and the layer's weight would become zero. Use gradvote.algorithms.signsgd(zero='abstain'), "
    "or orthogonal(layer, orthogonal_map='matrix_exp')."
)
DIVIDING = (
    "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "FusedAdam", "DeepSpeedCPUAdam", "Adam8bit", "AdamW8bit",
    "Adagrad", "Adadelta", "RMSprop", "Adafactor",
)  # fmt: skip
"""Optimizers, of torch or of that name elsewhere, that divide each direction by its own size."""
LOST = (
    "{name} stands behind an algorithm with error memory: it divides each direction by the direction's own size, so "
    "that the sizes which the algorithm sends are lost, all coordinates of a tensor move alike, and the memory counts "
    "on steps that nobody takes. Put a torch.optim.SGD there; gradvote.optim.sgd_for(optimizer, algorithm) makes the "
    "one that fits."
)


def warn_of_differences(optimizers: Sequence[Optimizer], algorithm: Algorithm, stacklevel: int) -> None:
    """Say that an optimizer needs true gradients where directions are none."""
    if any(isinstance(own, LBFGS) for own in optimizers) and not _passes_on(algorithm.up):
        mend = ", or an algorithm that sends gradients, gradvote.algorithms.sgd()"
        warnings.warn(DIFFERENCES.format(why=OF_SIGNS, mend=mend), stacklevel=stacklevel + 1)


def warn_of_inner(optimizers: Sequence[Optimizer], stacklevel: int) -> None:
    """Say that an inner optimizer of local steps takes a round for a step of its own."""
    if any(isinstance(own, LBFGS) for own in optimizers):
        warnings.warn(DIFFERENCES.format(why=MOVED, mend=" as the inner optimizer"), stacklevel=stacklevel + 1)


def check_constants(modules: Iterable[nn.Module], algorithm: Algorithm, params: Iterable[Tensor]) -> None:
    """Raise ValueError for a layer that keeps constants in one of `params`, where a vote would move them."""
    own = {id(p) for p in params}
    for module in modules:
        for name, inside in module.named_modules():
            if isinstance(inside, ParametrizationList) and id(getattr(inside, "original", None)) in own:
                reflects = any(str(getattr(m, "orthogonal_map", "")).endswith("householder") for m in inside)
                if reflects and _moves_zeros(algorithm.up):
                    raise ValueError(CONSTANTS.format(name=name.partition(".parametrizations")[0] or "the model"))


def warn_of_lost_sizes(optimizers: Sequence[Optimizer], remembers: bool, stacklevel: int) -> None:
    """Say that an optimizer does not fit an algorithm that `remembers` what is still to be sent."""
    found = next((name for own in optimizers for name in _names(own) if name in DIVIDING), None)
    if remembers and found is not None:
        warnings.warn(LOST.format(name=found), stacklevel=stacklevel + 1)


def _moves_zeros(codec: Codec) -> bool:
    """Whether zeros beside other numbers arrive as something else."""
    x = torch.zeros(1, 128, dtype=torch.float32, device=CPU)
    x[0, ::2] = 1.0
    return bool(_arrived(codec, x)[0, 1::2].any())


def _passes_on(codec: Codec) -> bool:
    """Whether numbers arrive as they are."""
    x = torch.linspace(-1.0, 2.0, 128, dtype=torch.float32, device=CPU)[None]
    return torch.equal(_arrived(codec, x), x)


def _arrived(codec: Codec, x: Tensor) -> Tensor:
    ctx = Context(0, 0, torch.zeros(1, dtype=torch.int64, device=CPU), 0)
    payload, _ = codec.encode(x, codec.init(x), ctx)
    return codec.decode(payload, ctx, x.shape[-1])


def _names(optimizer: Optimizer) -> Iterator[str]:
    """What an optimizer is, or what a wrapper (Accelerate's, ZeroRedundancyOptimizer) has inside."""
    inner = getattr(optimizer, "optimizer", getattr(optimizer, "optim", None))
    if isinstance(inner, Optimizer):
        yield from _names(inner)
    yield from (cls.__name__ for cls in type(optimizer).__mro__)
