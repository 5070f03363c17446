"""What cannot be exchanged is refused by name, before anything is built."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.optim import _apply_optimizer_in_backward
from torch.nn.utils.parametrizations import weight_norm

from gradvote.engines.common.flat_buffer import target_of
from gradvote.engines.common.parameters import parameters_of


def computed() -> Any:
    layer = weight_norm(nn.Linear(3, 2))
    return [("weight", layer.weight), ("bias", layer.bias)]


def on_meta() -> Any:
    with torch.device("meta"):
        return nn.Linear(3, 2).named_parameters()


def steps_in_backward() -> Any:
    layer = nn.Linear(3, 2)
    _apply_optimizer_in_backward(torch.optim.SGD, layer.parameters(), {"lr": 0.1})
    return layer.named_parameters()


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a set": (lambda: {*nn.Linear(3, 2).parameters()}, TypeError, "got a set, whose order differs from process"),
    "a frozen set": (lambda: frozenset(nn.Linear(3, 2).parameters()), TypeError, "Give a list"),
    "computed": (computed, ValueError, "'weight' is computed from others"),
    "lazy": (lambda: nn.LazyLinear(2).named_parameters(), ValueError, "'weight' has no shape yet.*Send a batch"),
    "steps in the backward pass": (steps_in_backward, ValueError, "'weight' has an optimizer that steps within the"),
    "complex": (
        lambda: [("c", nn.Parameter(torch.zeros(2, dtype=torch.complex64)))],
        ValueError,
        "'c' is torch.complex64, and a vote is on real numbers.*view_as_real",
    ),
    "a dictionary": (lambda: dict(nn.Linear(3, 2).named_parameters()), TypeError, r"Give its .items\(\)"),
    "meta": (on_meta, ValueError, "'weight' is on the meta device, without values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_never_gets_a_gradient_or_has_no_order_is_refused(case: str) -> None:
    """A set would have layers taken for each other, and computed weights would never move: both in silence."""
    made, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        parameters_of(made(), "Exchange(params, algorithm)")


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="torch before 2.10")
def test_a_direction_has_the_type_that_a_gradient_may_have() -> None:
    """Where a rank has none, the step would fail after it was voted on, on this rank alone."""
    p = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    p.grad_dtype = torch.float32
    p.grad = target_of(p, None)
    assert p.grad.dtype == torch.float32
    assert target_of(nn.Parameter(torch.zeros(3, dtype=torch.bfloat16)), None).dtype == torch.bfloat16
