"""Adam's update before signs."""

import math

import pytest
import torch

from gradvote.transforms import Adam
from tests.contract.parts import context, same


def test_it_is_torchs() -> None:
    """x − η·update is where torch.optim.Adam goes, also with a coordinate that has no gradient at first."""
    generator = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(1, 6))
    theirs, ours = torch.optim.Adam([p], lr=0.1, betas=(0.7, 0.95), eps=1e-3), torch.zeros(1, 6)
    transform = Adam(0.7, 0.95, 1e-3)
    state = transform.init(ours)
    for step in range(6):
        g = torch.randn(1, 6, generator=generator) * torch.tensor([1.0, 1e-4, 1e6, 1.0, 0.0, float(step > 2)])
        out, state = transform(g, state, context(blocks=1))
        ours, p.grad = ours - 0.1 * out, g.clone()
        theirs.step()
    torch.testing.assert_close(ours, p.detach())
    assert ours[0, 4] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 2.0**64])
def test_a_block_that_is_not_sent_does_not_grow_older(bad: float) -> None:
    transform, x = Adam(), torch.ones(2, 3)
    _, before = transform(x, transform.init(x), context(blocks=2))
    x[1, 2] = bad
    out, after = transform(x, before, context(blocks=2))
    assert bool(out[0].isfinite().all()) and not bool(out[1].isfinite().all())
    assert same({k: v[1] for k, v in after.items()}, {k: v[1] for k, v in before.items()})
    assert all(bool((after[k][0] != before[k][0]).all()) for k in ("square", "momentum weight", "square weight"))


def test_the_largest_numbers_that_are_taken_in_stay_finite() -> None:
    x = torch.full((1, 4), 2.0**64 * (1 - 2.0**-24))
    transform = Adam()
    state = transform.init(x)
    for _ in range(50):
        out, state = transform(x, state, context(blocks=1))
    torch.testing.assert_close(out, torch.ones(1, 4))


@pytest.mark.parametrize(
    "wrong, sentence",
    [({"beta1": 1.0}, "β₁ must lie"), ({"beta2": -0.1}, "β₂ must lie"), ({"eps": 0.0}, "ε must be positive")],
)
def test_mistakes(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Adam(**wrong)
