"""DropSignSGD moves x̃ = x − η(ẽ + mean e_i) exactly as momentum SGD (Phong and Phuong 2020).

x̃_{t+1} = x̃_t − η·(1/M)Σ(μm_i + g_i), with η the optimizer's, which is the paper's η/c. Whatever the masks, the signs
and the scales are, nothing is lost: only rounding remains, and in float64 that is small.
"""

import pytest
import torch
from torch import Tensor

from gradvote.algorithms import dropsignsgd
from gradvote.core import Algorithm, Context
from gradvote.schedules import Step

N, B, M, MU = 70, 3, 4, 0.9


def deviation(algorithm: Algorithm, dtype: torch.dtype, lr: float = 0.25, steps: int = 40) -> float:
    """The largest difference between x̃ and momentum SGD over a run on heterogeneous quadratics."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(M, B, N, generator=generator, dtype=dtype) * 0.01
    x = torch.zeros(B, N, dtype=dtype)
    worker, server = algorithm.up.init(torch.zeros(M, B, N, dtype=dtype)), algorithm.down.init(x)
    m, expected, worst = torch.zeros(M, B, N, dtype=dtype), x.clone(), 0.0
    for step in range(steps):
        g = x - target
        ctx = Context(3, step, torch.arange(B), torch.arange(M)[:, None], lr)
        ballots, worker = algorithm.encode(g, worker, ctx)
        decision, server = algorithm.combine(ballots, server, ctx, N)
        direction, worker = algorithm.decode(decision, worker, ctx, N)
        x = x - lr * direction
        m = MU * m + g
        expected = expected - lr * (MU * m + g).mean(0)
        worst = max(worst, float((shifted(x, worker, server, lr) - expected).abs().max()))
    return worst


def shifted(x: Tensor, worker: dict[str, dict[str, Tensor]], server: dict[str, Tensor], lr: float) -> Tensor:
    """x̃."""
    return x - lr * (server["memory"] + worker["codec"]["memory"].mean(0))


@pytest.mark.parametrize("zero", ["random", "positive", "abstain"])
def test_exact_in_float64(zero: str) -> None:
    """With c a power of two and M = 4 even the server's mean of c·Δ_i is exact."""
    assert deviation(dropsignsgd(c=2**-7, zero=zero), torch.float64) < 1e-15  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "algorithm",
    [dropsignsgd(), dropsignsgd(c_down=2e-3), dropsignsgd(c=Step(6e-3, (20,), (2.0,))), dropsignsgd(granularity=64)],
    ids=["defaults", "c and c_down differ", "scheduled c", "granularity 64"],
)
def test_to_rounding_of_the_servers_mean(algorithm: Algorithm) -> None:
    """The server's mean of c·Δ_i is float32, the memories float64."""
    assert deviation(algorithm, torch.float64) < 1e-8


def test_to_rounding_in_float32() -> None:
    assert deviation(dropsignsgd(), torch.float32) < 1e-6
