"""How the CPU kernels are compiled: on first use, without the interpreter lock, kept on disk where that is possible."""

import functools
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gradvote.kernels.cpu.kept_code import Kept

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
        compiled: Any = _compiled(cache=True)(function)
    except (OSError, RuntimeError):  # there is no folder to keep it in
        compiled = _compiled()(function)
    compiled._cache = Kept(compiled._cache)
    return cast(F, compiled)


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

    A number arrives as its LLVM value, an array as its address, a tuple as a tuple of these, None as None. A tuple of
    nothing but Nones arrives as its type, whose length is known to the compiler. Items of an array must lie side by
    side; what they are is for the caller to see to.
    """

    def typing(_: Any, *kinds: types.Type) -> tuple[Any, Callable[..., Any]]:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            write(builder, *(_argument(context, builder, *pair) for pair in zip(kinds, values, strict=True)))
            return context.get_dummy_value()

        return types.void(*kinds), generate

    functools.update_wrapper(typing, write)
    return emitted(typing)


def program(write: Callable[..., None]) -> Callable[..., None]:
    """A kernel of a single `instruction`, loops and all, so that numba's own front end has next to nothing to do.

    The same loops in Python take about three times as long to compile (docs/performance.md, "The first call").
    """
    here = write.__code__
    code = _whole.__code__.replace(co_filename=here.co_filename, co_firstlineno=here.co_firstlineno)
    stub = FunctionType(code, {"write": instruction(write), "__name__": write.__module__}, write.__name__)
    stub.__qualname__, stub.__doc__ = write.__qualname__, write.__doc__
    return kernel(stub)


def _whole(*arguments: Any) -> None:
    write(*arguments)  # type: ignore[name-defined]  # noqa: F821  # a global of each stub that `program` makes


def _argument(context: Any, builder: Any, kind: types.Type, value: Any) -> Any:
    if isinstance(kind, types.NoneType):
        return None
    if isinstance(kind, types.Array):
        if kind.layout != "C":
            raise TypeError(f"An emitted kernel takes arrays whose items lie side by side; got {kind}.")
        return builder.ptrtoint(context.make_array(kind)(context, builder, value).data, ir.IntType(64))
    if not isinstance(kind, types.BaseTuple):
        return value
    if _is_number(kind):
        return kind
    own = cast(Iterable[types.Type], kind)
    return tuple(_argument(context, builder, part, builder.extract_value(value, i)) for i, part in enumerate(own))


def _is_number(kind: types.BaseTuple) -> bool:
    """Whether all that a tuple says lies in its type."""
    own = cast(Iterable[types.Type], kind)
    return all(isinstance(p, types.NoneType) or (isinstance(p, types.BaseTuple) and _is_number(p)) for p in own)
