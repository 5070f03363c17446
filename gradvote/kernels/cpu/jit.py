"""How the CPU kernels are compiled: on first use, without the interpreter lock, kept on disk where that is possible."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compiles without fast-math, so that no operation is fused or reordered; without a cache where no folder is writable."""
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": False}
    try:
        compiled: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        compiled = numba.njit(**options)(function)
    return compiled


def emitted(typing: F) -> F:
    """Marks a function that writes its own LLVM IR: called with types, it returns a signature and a code generator."""
    generated: F = intrinsic(typing)
    return generated
