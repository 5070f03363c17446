"""How the CPU kernels are compiled: on first use, without the interpreter lock, kept on disk where that is possible."""

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
_compiled = partial(numba.njit, nogil=True, error_model="numpy", boundscheck=False, fastmath=False)


def kernel(function: F) -> F:
    """Compiles a function; without fast-math, so that no operation is fused or reordered.

    The machine code is kept beside the source or in the user's cache folder; where neither can be written, nowhere. It
    is kept under the digest of all sources, because numba looks at the kernel's own file only, not at what it calls.
    """
    function.__qualname__ += f"_{_digest()}"
    try:
        return cast(F, _compiled(cache=True)(function))
    except RuntimeError:
        return cast(F, _compiled()(function))


def emitted(typing: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a function that writes its own LLVM IR: called with types, it returns a signature and a code generator."""
    generated: Callable[..., Any] = intrinsic(typing)
    return generated


@cache
def _digest() -> str:
    """A digest of every file that takes part in writing the kernels."""
    here = Path(__file__).parent
    sources = sorted([*here.glob("*.py"), here.parent / "quantiles.py"])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
