"""Momenta and memories in half the memory: the one way to it, whatever the algorithm and the engine."""

from dataclasses import replace

import torch
from torch import Tensor

from gradvote.codecs import Rounded
from gradvote.codecs.rounded import DTYPES, Rounding
from gradvote.core import Algorithm, Codec, State
from gradvote.staging import CPU

StateDtype = torch.dtype | str | None


def with_state_dtype(algorithm: Algorithm, state_dtype: StateDtype, rounding: Rounding = "stochastic") -> Algorithm:
    """The algorithm with all states of workers and server kept as `state_dtype`; None and float32 change nothing.

    Of an algorithm that has no states there is nothing to change. What is rounded already is rounded as is now asked
    for. All workers choose the same, as the recipe by which they know each other says it.

    Raises:
        ValueError: states cannot be kept in this type.
    """
    name = "float32" if state_dtype is None else str(state_dtype).removeprefix("torch.")
    if name == "float32":
        return algorithm
    up, down = (_rounded(codec, name, rounding) for codec in (algorithm.up, algorithm.down))
    return replace(algorithm, up=up, down=down)


def _rounded(codec: Codec, dtype: str, rounding: Rounding) -> Codec:
    while isinstance(codec, Rounded):
        codec = codec.codec
    found = Rounded(codec, dtype, rounding)
    kept = [own.dtype for own in _tensors(found.init(torch.zeros(1, 1, dtype=torch.float32, device=CPU)))]
    return found if DTYPES[dtype] in kept else codec


def _tensors(state: State) -> list[Tensor]:
    return [t for own in state.values() for t in (_tensors(own) if isinstance(own, dict) else [own])]
