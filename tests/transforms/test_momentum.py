"""Momenta by hand."""

import pytest
import torch

from gradvote.core import Transform
from gradvote.transforms import Clip, Ema, LionMomentum, Momentum
from tests.contract.parts import context


@pytest.mark.parametrize(
    ("transform", "outputs"),
    [
        (Momentum(0.5), [1.0, 1.5, 1.75]),
        (Momentum(0.5, nesterov=True), [1.5, 1.75, 1.875]),
        (Ema(0.5), [0.5, 0.75, 0.875]),
        (LionMomentum(0.5, 0.25), [0.5, 0.875, 0.96875]),
        (Clip(0.25), [0.25, 0.25, 0.25]),
    ],
    ids=repr,
)
def test_a_constant_gradient_of_one(transform: Transform, outputs: list[float]) -> None:
    x, found = torch.ones(1, 1), []
    state = transform.init(x)
    for _ in outputs:
        out, state = transform(x, state, context(blocks=1))
        found.append(float(out))
    assert found == outputs


def test_clip_leaves_what_is_not_finite() -> None:
    x = torch.tensor([[torch.nan, torch.inf, -torch.inf, 5.0, -0.1]])
    out = Clip(1.0)(x, {}, context(blocks=1))[0][0].tolist()
    assert out[0] != out[0]
    assert out[1:] == [torch.inf, -torch.inf, 1.0, pytest.approx(-0.1)]
