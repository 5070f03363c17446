"""How the CPU kernels are compiled: on first use, without the interpreter lock, kept on disk where that is possible."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
_compiled = functools.partial(
    numba.njit, nogil=True, error_model="numpy", boundscheck=False, fastmath=False, no_cfunc_wrapper=True
)


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


@functools.cache
def _digest() -> str:
    """A digest of every file that takes part in writing the kernels."""
    here = Path(__file__).parent
    sources = sorted([*here.glob("*.py"), here.parent / "quantiles.py"])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def instruction(write: Callable[..., None]) -> Callable[..., None]:
    """An `emitted` function that returns nothing, from the code that writes it: `write(builder, *arguments)`.

    A number arrives as its LLVM value, None as None, and a tuple as its type, whose length is known to the compiler.
    """

    def typing(_: Any, *kinds: types.Type) -> tuple[Any, Callable[..., Any]]:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            write(builder, *map(_argument, kinds, values))
            return context.get_dummy_value()

        return types.void(*kinds), generate

    functools.update_wrapper(typing, write)
    return emitted(typing)


def _argument(kind: types.Type, value: Any) -> Any:
    if isinstance(kind, types.NoneType):
        return None
    return kind if isinstance(kind, types.BaseTuple) else value
