"""A vote stays what it is, whatever a script has set torch to: within `torch.inference_mode` and `torch.compile`."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Within, new tensors are ordinary ones, also where the script is in inference mode; nothing is recorded then.

    Gradients, momenta and starts that were made in inference mode have no version, and could never be written to
    outside of it: the step would fail after it has been voted on.
    """
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


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
