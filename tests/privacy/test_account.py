"""The account against closed forms and published numbers; the mechanism against what it promises."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gradvote.privacy import (
    Account,
    BudgetSpent,
    Gaussian,
    clipped_sum,
    epsilon_of,
    noise_multiplier_for,
    poisson_sample,
)

pytest.importorskip("cryptography", reason="noise for privacy needs the extra dp")

from gradvote.privacy.noise import SecureNormal


def delta_by_quadrature(sigma: float, epsilon: float) -> float:
    """∫ max(0, p(x) − e^ε·q(x)) dx for p = N(1, σ²), q = N(0, σ²)."""
    x = np.linspace(-40 * sigma, 40 * sigma + 1, 2_000_001)
    p, q = (np.exp(-((x - at) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi)) for at in (1, 0))
    return float(np.trapezoid(np.maximum(0, p - math.exp(epsilon) * q), x))


def test_the_closed_form() -> None:
    assert epsilon_of(5.0, 100, 1e-5) == pytest.approx(9.997, abs=1e-3)
    for sigma, delta in ((0.5, 1e-5), (2.0, 1e-3), (7.0, 1e-6)):
        assert delta_by_quadrature(sigma, epsilon_of(sigma, 1, delta)) == pytest.approx(delta, rel=1e-3)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.3, 50), st.integers(1, 10_000), st.sampled_from([1e-3, 1e-5, 1e-8]))
def test_more_noise_fewer_steps_and_a_larger_delta_cost_less(sigma: float, steps: int, delta: float) -> None:
    epsilon = epsilon_of(sigma, steps, delta)
    assert epsilon_of(sigma * 1.1, steps, delta) <= epsilon <= epsilon_of(sigma, steps + 1, delta)
    assert epsilon_of(sigma, steps, delta * 2) <= epsilon
    assert noise_multiplier_for(epsilon, steps, delta) == pytest.approx(sigma, rel=1e-6)


def test_sampled_batches_by_pld_below_rdp() -> None:
    pytest.importorskip("dp_accounting", reason="accounts with sampled batches need the extra dp")
    pld, rdp = (epsilon_of(2.0, 100, 1e-5, 0.1, method) for method in ("pld", "rdp"))
    assert pld < rdp < 1.25 * pld < epsilon_of(2.0, 100, 1e-5)


def test_a_run_stops_before_the_limit_and_a_checkpoint_keeps_the_count() -> None:
    mechanism = Gaussian(5.0, 1.0, max_epsilon=3.0)
    account = Account(mechanism, 1000)
    with pytest.raises(BudgetSpent, match="max_epsilon=3"):
        for _ in range(10_000):
            account.charge()
    assert account.epsilon() <= 3 < epsilon_of(5.0, account.releases + 1, 1e-5)
    again = Account(mechanism, 1000)
    again.load_state_dict(account.state_dict())
    with pytest.raises(BudgetSpent):
        again.charge()
    with pytest.raises(ValueError, match="dimension=1000"):
        Account(mechanism, 7).load_state_dict(account.state_dict())


def test_noise_is_normal_and_never_the_same() -> None:
    z = SecureNormal().draw(400_001)
    assert abs(z.mean()) < 0.008 and abs(z.var() - 1) < 0.012 and abs((z**4).mean() - 3) < 0.1
    assert abs(np.mean(np.abs(z) < 1) - 0.6827) < 0.004 and abs(np.mean(np.abs(z) < 2) - 0.9545) < 0.002
    assert not np.array_equal(SecureNormal().draw(8), SecureNormal().draw(8)) and len(SecureNormal().draw(0)) == 0


def test_a_release_is_bounded_before_the_noise_and_never_abstains() -> None:
    quiet = Gaussian(1e-6, 2.0)
    long, short = torch.full((100,), 3.0), torch.full((100,), 0.01)
    assert float(quiet.release(long).norm()) == pytest.approx(2.0, rel=1e-4)
    assert torch.allclose(quiet.release(short), short, atol=1e-4)
    spoilt = long.clone()
    spoilt[3], spoilt[4] = torch.nan, torch.inf
    found = quiet.release(spoilt)
    assert bool(found.isfinite().all()) and abs(float(found[3])) < 1e-4


def test_what_cannot_be_right_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling clients hides them"):
        Gaussian(1.0, 1.0, rate=0.1)
    with pytest.raises(ValueError, match="max_norm must be positive"):
        Gaussian(1.0, 0.0)
    with pytest.raises(ValueError, match="unit of privacy"):
        Gaussian(1.0, 1.0, unit="site")  # type: ignore[arg-type]


def test_each_example_is_bounded_alone() -> None:
    torch.manual_seed(0)
    model, inputs, targets = (
        nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)),
        torch.randn(9, 5),
        torch.arange(9) % 3,
    )
    inputs[2] *= 100
    inputs[5, 1] = torch.nan
    found = clipped_sum(model, nn.functional.cross_entropy, inputs, targets, 0.5, at_once=4)
    total = [torch.zeros_like(p) for p in model.parameters()]
    for x, y in zip(inputs, targets, strict=True):
        own = torch.autograd.grad(nn.functional.cross_entropy(model(x[None]), y[None]), list(model.parameters()))
        norm = torch.cat([g.flatten() for g in own]).norm()
        if bool(norm.isfinite()):
            total = [t + g * min(1.0, 0.5 / float(norm)) for t, g in zip(total, own, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found.values(), total, strict=True))
    nobody = clipped_sum(model, nn.functional.cross_entropy, inputs[:0], targets[:0], 0.5)
    assert all(not bool(x.any()) for x in nobody.values())


def test_batches_are_drawn_example_by_example() -> None:
    sizes = [len(poisson_sample(1000, 0.1)) for _ in range(200)]
    assert abs(np.mean(sizes) - 100) < 5 and 5 < np.std(sizes) < 14
    with pytest.raises(ValueError, match="rate"):
        poisson_sample(10, 0.0)


@pytest.mark.parametrize("noise", [math.nan, math.inf, 0.0, -1.0])
def test_of_a_noise_that_is_none_nothing_is_claimed(noise: float) -> None:
    """NaN compares false with everything, so that the search ended at once, with ε = 10⁻⁶."""
    with pytest.raises(ValueError, match="noise_multiplier must be positive and finite"):
        epsilon_of(noise, 10, 1e-5)


@pytest.mark.parametrize("given", [{"epsilon": math.nan}, {"epsilon": math.inf}, {"delta": math.nan}, {"rate": 2.0}])
def test_for_an_epsilon_that_is_none_no_noise_is_named(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"epsilon must be positive and finite, delta in \(0, 1\)"):
        noise_multiplier_for(**{"epsilon": 1.0, "steps": 10, "delta": 1e-5, **given})  # type: ignore[arg-type]  # steps is whole
