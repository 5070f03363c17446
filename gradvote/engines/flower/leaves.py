"""States of a worker as named arrays of bytes: what Flower's records and files hold, of whatever type they are."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.core import State

Bytes = NDArray[np.uint8]


def saved(states: Sequence[State]) -> dict[str, Bytes]:
    """The tensors of states, one entry per group of the layout, by names such as "0.momentum"."""
    return {f"{i}.{name}": _raw(leaf) for i, state in enumerate(states) for name, leaf in _leaves(state)}


def loaded(fresh: Sequence[State], arrays: Mapping[str, Bytes]) -> list[State]:
    """The inverse of `saved`, for states like these.

    Raises:
        ValueError: they are those of another algorithm or model.
    """
    expected = {f"{i}.{name}": _raw(leaf) for i, state in enumerate(fresh) for name, leaf in _leaves(state)}
    if {k: v.size for k, v in expected.items()} != {k: v.size for k, v in arrays.items()}:
        raise ValueError(
            f"The saved memory holds {_names(arrays)}; {_names(expected)} of this model and algorithm was expected. "
            "Use those it was saved with, or another folder."
        )
    return [_filled(state, arrays, f"{i}.") for i, state in enumerate(fresh)]


def _leaves(state: State, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _filled(state: State, arrays: Mapping[str, Bytes], prefix: str) -> State:
    new: State = {}
    for key, value in state.items():
        if isinstance(value, dict):
            new[key] = _filled(value, arrays, f"{prefix}{key}.")
        else:
            raw = torch.from_numpy(arrays[prefix + key].copy())
            new[key] = raw.view(value.dtype).reshape(value.shape) if value.numel() else value
    return new


def _raw(x: Tensor) -> Bytes:
    found: Bytes = x.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return found


def _names(arrays: Mapping[str, Bytes]) -> str:
    return ", ".join(sorted(arrays)) or "nothing"
