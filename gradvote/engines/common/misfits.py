"""Optimizers and layers that need gradients themselves, and that other directions would ruin in silence."""

import warnings
from collections.abc import Iterable, Sequence

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
