"""A vote within a function that the script compiles (`torch.compile` of a whole training step) stays what it is."""

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(call: Callable[P, R]) -> Callable[P, R]:
    """What torch.compile runs as it is, as behind `torch.compiler.disable`, which would import the compiler at once.

    It would trace sockets, threads and views of memory, and end in an internal error.
    """
    disabled: list[Callable[P, R]] = []

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        compiler: Any = sys.modules.get("torch._dynamo")
        if compiler is None:
            return call(*args, **kwargs)
        if not disabled:
            disabled.append(compiler.disable(call))
        return disabled[0](*args, **kwargs)

    run._torchdynamo_disable = True  # type: ignore[attr-defined]  # by which the compiler knows it
    return run
