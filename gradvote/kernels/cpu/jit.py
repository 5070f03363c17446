"""How the CPU kernels are compiled: on first use, without the interpreter lock, kept on disk where that is possible."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import numba
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
_compiled = partial(numba.njit, nogil=True, error_model="numpy", boundscheck=False, fastmath=False)


def kernel(function: F) -> F:
    """Compiles a function; without fast-math, so that no operation is fused or reordered.

    The machine code is kept beside the source or in the user's cache folder; where neither can be written, nowhere.
    """
    try:
        return cast(F, _compiled(cache=True)(function))
    except RuntimeError:
        return cast(F, _compiled()(function))


def emitted(typing: Callable[..., Any]) -> Callable[..., None]:
    """Marks a function that writes its own LLVM IR: called with types, it returns a signature and a code generator."""
    generated: Callable[..., None] = intrinsic(typing)
    return generated
