"""Kernels by device: `reference` defines them; a faster form, where one exists, returns the same bits.

Tensors on the CPU go to `gradvote.kernels.cpu`, compiled by numba on first use; those on a CUDA device to
`gradvote.kernels.cuda`, compiled by Triton. On any other device, or without Triton, the definitions run, on the device.
The environment variable GRADVOTE_KERNELS=reference keeps to the definitions, as `definitions` does for some work.
"""

import functools
import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from gradvote.kernels import (
    adam_reference,
    feedback_reference,
    ragged_reference,
    reference,
    rounding_reference,
    units_reference,
)
from gradvote.kernels.adam_reference import Betas, Moments
from gradvote.kernels.feedback_reference import Feedback, Inertia
from gradvote.kernels.reference import at_least_float32, bounded, num_words
from gradvote.kernels.rooms import CPU_ROOMS, CUDA_ROOMS, RAGGED_ROOMS, ROOMS
from gradvote.kernels.roots import sqrt
from gradvote.rng import Draw
from gradvote.scattered import Scattered

P = ParamSpec("P")
T = TypeVar("T")

WITHOUT_TRITON = (
    "Gradients are on a CUDA device and Triton is not installed: voting runs there by plain PyTorch operations, with "
    "the same results, but slowly; `pip install triton` brings the fast kernels (CUDA builds of PyTorch come with it)."
)

SHORT = 1 << 19
"""Work on fewer numbers than this takes less time by the definitions than the loading of machine code does."""

_by_definition = 0


@contextmanager
def definitions(count: int) -> Iterator[None]:
    """Within, all threads of the process keep to the definitions, if there is work on fewer than `SHORT` numbers.

    `count` is that number. Results are the same to the bit; numba and its machine code, a second's loading, are not
    needed then.
    """
    global _by_definition  # noqa: PLW0603  # hooks of a backward pass run in threads of torch's own
    own = int(count < SHORT)
    _by_definition += own
    try:
        yield
    finally:
        _by_definition -= own


def _by_device(definition: Callable[P, T]) -> Callable[P, T]:
    name = definition.__name__
    if not any(name in rooms for rooms in ROOMS.values()):
        return definition

    @functools.wraps(definition)
    def kernel(*args: P.args, **kwargs: P.kwargs) -> T:
        device = device_of(*args, *kwargs.values())
        fast = None if _by_definition and device == "cpu" else _fast(device, name)
        chosen = fast or definition
        result: T = chosen(*args, **kwargs)
        return result

    return kernel


def device_of(*args: object) -> str:
    """The type of device that work on these arguments runs on: that of the tensors that are not on the CPU, if any."""
    for arg in args:
        x = arg.block if type(arg) is Draw else arg.base if type(arg) is Scattered else arg
        if isinstance(x, Tensor):
            if not x.is_cpu:
                return x.device.type
        elif isinstance(x, tuple):
            found = device_of(*x)
            if found != "cpu":
                return found
    return "cpu"


def reads_scattered(device: torch.device, dtypes: Iterable[torch.dtype]) -> bool:
    """Whether kernels for rows of unequal length take a `Scattered` of such numbers there."""
    if _fast(device.type, "ragged_unpack") is None:
        return False
    return device.type == "cuda" or all(dtype == torch.float32 for dtype in dtypes)


@functools.cache
def _fast(device: str, name: str) -> Callable[..., Any] | None:
    room = ROOMS.get(device, {}).get(name)
    if room is None or os.environ.get("GRADVOTE_KERNELS") == "reference" or not _can_compile(device):
        return None
    return getattr(importlib.import_module(f"gradvote.kernels.{device}.{room}"), name)  # type: ignore[no-any-return]  # a function of that module


@functools.cache
def _can_compile(device: str) -> bool:
    if device != "cuda" or importlib.util.find_spec("triton") is not None:
        return True
    warnings.warn(WITHOUT_TRITON, RuntimeWarning, stacklevel=1)
    return False


adam_step = _by_device(adam_reference.adam_step)
add_noise = _by_device(reference.add_noise)
checked_pack_signs = _by_device(reference.checked_pack_signs)
compact = _by_device(reference.compact)
count_bits = _by_device(reference.count_bits)
expand = _by_device(reference.expand)
feedback_step = _by_device(feedback_reference.feedback_step)
finite = _by_device(reference.finite)
finite_or = _by_device(reference.finite_or)
keep_bits = _by_device(reference.keep_bits)
majority = _by_device(reference.majority)
mean = _by_device(reference.mean)
mean_abs = _by_device(reference.mean_abs)
mean_signs = _by_device(reference.mean_signs)
median = _by_device(reference.median)
moving_average = _by_device(reference.moving_average)
narrow = _by_device(rounding_reference.narrow)
noise = _by_device(reference.noise)
noisy_pack_signs = _by_device(reference.noisy_pack_signs)
outside_units = _by_device(units_reference.outside_units)
pack_bits = _by_device(reference.pack_bits)
pack_signs = _by_device(reference.pack_signs)
ragged_adam_step = _by_device(ragged_reference.ragged_adam_step)
ragged_average = _by_device(ragged_reference.ragged_average)
ragged_averaged_signs = _by_device(ragged_reference.ragged_averaged_signs)
ragged_compact = _by_device(ragged_reference.ragged_compact)
ragged_copy = _by_device(ragged_reference.ragged_copy)
ragged_counts = _by_device(ragged_reference.ragged_counts)
ragged_expand = _by_device(ragged_reference.ragged_expand)
ragged_feedback_step = _by_device(ragged_reference.ragged_feedback_step)
ragged_keep_bits = _by_device(ragged_reference.ragged_keep_bits)
ragged_mean = _by_device(ragged_reference.ragged_mean)
ragged_mean_abs = _by_device(ragged_reference.ragged_mean_abs)
ragged_narrow = _by_device(ragged_reference.ragged_narrow)
ragged_noisy_signs = _by_device(ragged_reference.ragged_noisy_signs)
ragged_outside_units = _by_device(ragged_reference.ragged_outside_units)
ragged_random_bits = _by_device(ragged_reference.ragged_random_bits)
ragged_signs = _by_device(ragged_reference.ragged_signs)
ragged_unpack = _by_device(ragged_reference.ragged_unpack)
ragged_whole_units = _by_device(ragged_reference.ragged_whole_units)
random_bits = _by_device(reference.random_bits)
random_words = _by_device(reference.random_words)
still_pack_signs = _by_device(units_reference.still_pack_signs)
tree_sum = _by_device(reference.tree_sum)
trimmed_mean = _by_device(reference.trimmed_mean)
unpack_bits = _by_device(reference.unpack_bits)
unpack_kept = _by_device(reference.unpack_kept)
unpack_signs = _by_device(reference.unpack_signs)
whole_units = _by_device(units_reference.whole_units)
widen = _by_device(rounding_reference.widen)

__all__ = [
    "CPU_ROOMS",
    "CUDA_ROOMS",
    "RAGGED_ROOMS",
    "ROOMS",
    "SHORT",
    "Betas",
    "Feedback",
    "Inertia",
    "Moments",
    "adam_step",
    "add_noise",
    "at_least_float32",
    "bounded",
    "checked_pack_signs",
    "compact",
    "count_bits",
    "definitions",
    "device_of",
    "expand",
    "feedback_step",
    "finite",
    "finite_or",
    "keep_bits",
    "majority",
    "mean",
    "mean_abs",
    "mean_signs",
    "median",
    "moving_average",
    "narrow",
    "noise",
    "noisy_pack_signs",
    "num_words",
    "outside_units",
    "pack_bits",
    "pack_signs",
    "ragged_adam_step",
    "ragged_average",
    "ragged_averaged_signs",
    "ragged_compact",
    "ragged_copy",
    "ragged_counts",
    "ragged_expand",
    "ragged_feedback_step",
    "ragged_keep_bits",
    "ragged_mean",
    "ragged_mean_abs",
    "ragged_narrow",
    "ragged_noisy_signs",
    "ragged_outside_units",
    "ragged_random_bits",
    "ragged_signs",
    "ragged_unpack",
    "ragged_whole_units",
    "random_bits",
    "random_words",
    "sqrt",
    "still_pack_signs",
    "tree_sum",
    "trimmed_mean",
    "unpack_bits",
    "unpack_kept",
    "unpack_signs",
    "whole_units",
    "widen",
]
