"""Straight-line Triton, written by running a formula once on symbols: quantiles and networks stand in one place.

A `Symbol` notes each operation as a line `v3 = v1 * v2`; `function` makes a Triton function of the lines.
"""

import linecache
import struct
from collections.abc import Callable, Sequence
from typing import Any

import triton
import triton.language as tl


class Trace:
    """The lines written so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[str, str] = {}

    def write(self, expression: str) -> "Symbol":
        """A symbol for an expression; the same one for the same expression."""
        if expression not in self._names:
            self._names[expression] = name = f"v{len(self.lines)}"
            self.lines.append(f"{name} = {expression}")
        return Symbol(self, self._names[expression])


class Symbol:
    """A value in a trace. Operators write themselves down; a float constant is rounded to float32 first."""

    def __init__(self, trace: Trace, name: str) -> None:
        self.trace, self.name = trace, name

    def _join(self, sign: str, other: "Symbol | float", swapped: bool = False) -> "Symbol":
        a, b = self.name, _constant(other)
        return self.trace.write(f"{b} {sign} {a}" if swapped else f"{a} {sign} {b}")

    def __add__(self, other: "Symbol | float") -> "Symbol":
        return self._join("+", other)

    __radd__ = __add__

    def __sub__(self, other: "Symbol | float") -> "Symbol":
        return self._join("-", other)

    def __rsub__(self, other: "Symbol | float") -> "Symbol":
        return self._join("-", other, swapped=True)

    def __mul__(self, other: "Symbol | float") -> "Symbol":
        return self._join("*", other)

    __rmul__ = __mul__

    def __truediv__(self, other: "Symbol") -> "Symbol":
        return self.trace.write(f"tl.div_rn({self.name}, {other.name})")  # `/` is not correctly rounded there

    def __and__(self, other: "Symbol | int") -> "Symbol":
        return self._join("&", other)

    def __xor__(self, other: "Symbol | int") -> "Symbol":
        return self._join("^", other)

    def __rshift__(self, other: int) -> "Symbol":
        return self._join(">>", other)

    def __lt__(self, other: "Symbol | float") -> "Symbol":
        return self._join("<", other)


def function(
    name: str, arguments: Sequence[str], formula: Callable[..., "Symbol | Sequence[Symbol]"], **names: Any
) -> Any:
    """A Triton function of `arguments` that computes what `formula` gives for their symbols.

    `names` are further names that the lines use.
    """
    trace = Trace()
    results = formula(*(Symbol(trace, argument) for argument in arguments))
    given = results.name if isinstance(results, Symbol) else ", ".join(result.name for result in results)
    lines = [f"def {name}({', '.join(arguments)}):", *(f"    {line}" for line in trace.lines), f"    return {given}"]
    source = "@triton.jit\n" + "\n".join(lines) + "\n"
    file = f"<gradvote {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # Triton reads a function's source
    namespace: dict[str, Any] = {"triton": triton, "tl": tl, "__name__": __name__, **names}
    exec(compile(source, file, "exec"), namespace)
    return namespace[name]


def _constant(value: "Symbol | float") -> str:
    if isinstance(value, Symbol):
        return value.name
    return str(value) if isinstance(value, int) else repr(struct.unpack("f", struct.pack("f", value))[0])
