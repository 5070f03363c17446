"""Local steps on one worker alone, attached as the tests of scripts' habits do."""

from typing import Any
from unittest import mock

from torch import nn
from torch.optim import SGD, Optimizer

from gradvote import algorithms, local_steps
from gradvote.core import Algorithm
from tests.engines.test_outside_changes import Alone


def half(params: list[nn.Parameter]) -> Optimizer:
    return SGD(params, 0.5)


def on(model: nn.Module, inner: Any, algorithm: Algorithm | None = None, **options: Any) -> local_steps.LocalSteps:
    given = {"every": 2, "outer": half, "engine": Alone, **options}
    return local_steps.attach(model, inner, algorithm or algorithms.diloco(), **given)


def in_fragments(model: nn.Module, inner: Any, algorithm: Algorithm | None = None) -> local_steps.Fragments:
    with mock.patch.dict(local_steps.ENGINES, {"distributed": Alone}):
        return local_steps.attach_fragments(
            model, inner, algorithm or algorithms.diloco(), every=4, fragments=2, outer=half
        )


def attached(kind: type[Optimizer] = SGD) -> tuple[nn.Module, Optimizer, local_steps.LocalSteps]:
    """A layer, its inner optimizer, and rounds of two steps."""
    model = nn.Linear(3, 2)
    inner = kind(model.parameters(), 0.1)  # type: ignore[call-arg]  # a rate
    return model, inner, on(model, inner)
