"""Noise has the size that was asked for, and the relative size follows the workers' agreement."""

import ast
from pathlib import Path

import pytest
import torch

import gradvote
from gradvote import algorithms
from gradvote.core import Payload
from gradvote.kernels.quantiles import QUANTILES
from gradvote.transforms import Noise, Relative
from tests.contract.parts import context, senders, updates

BLOCKS, N = 8, 4096


def decision(agreed: float, decided: bool = True) -> Payload:
    """What comes back for a single block."""
    return Payload(torch.tensor([decided]), {"report": torch.tensor([[agreed]])})


@pytest.mark.parametrize("distribution", QUANTILES)
def test_mean_zero_and_variance_one(distribution: str) -> None:
    out, _ = Noise(3.0, distribution)(torch.full((BLOCKS, N), 5.0), {}, context(blocks=BLOCKS))
    xi = (out.double() - 5) / 3
    assert abs(float(xi.mean())) < 5 / (BLOCKS * N) ** 0.5
    assert float(xi.var()) == pytest.approx(1, abs=0.06)
    assert abs(float((xi > 0).double().mean()) - 0.5) < 5 * 0.5 / (BLOCKS * N) ** 0.5


def test_no_noise_is_no_change() -> None:
    x = updates(2, 70)
    assert torch.equal(Noise(0.0)(x, {}, context(blocks=2))[0], x)


def test_a_worker_uses_its_own_maximum_until_one_is_agreed() -> None:
    noise, x, ctx = Noise(Relative(0.5)), torch.tensor([[1.0, -4.0]]), context(blocks=1)
    xi = Noise(1.0)(torch.zeros(1, 2), {}, ctx)[0]
    state = noise.init(x)
    out, state = noise(x, state, ctx)
    assert torch.equal(out, x + xi * 2.0)
    assert state["own"].tolist() == [4.0]
    state = noise.learn(state, decision(10.0))
    assert torch.equal(noise(x, state, ctx)[0], x + xi * 5.0)


@pytest.mark.parametrize("useless", [torch.nan, torch.inf, -1.0])
def test_a_useless_agreement_is_ignored(useless: float) -> None:
    noise = Noise(Relative())
    state = noise.learn(noise.init(torch.zeros(1, 2)), decision(3.0))
    assert noise.learn(state, decision(useless))["agreed"].tolist() == [3.0]
    assert noise.learn(state, decision(5.0, decided=False))["agreed"].tolist() == [3.0]


@pytest.mark.parametrize(("combine", "expected"), [("median", 2.0), ("max", 50.0)])
def test_agreement(combine: str, expected: float) -> None:
    """One liar moves the maximum, not the median; who abstains has no say; nobody means nothing agreed."""
    noise = Noise(Relative(0.1, combine))  # type: ignore[arg-type]
    reports = torch.tensor([[1.0, 1.0], [2.0, 7.0], [50.0, 1.0], [torch.nan, torch.nan]])
    valid = torch.tensor([[True, False]] * 3 + [[False, False]])
    agreed = noise.combine_reports(Payload(valid, {"report": reports[..., None]}))["report"][..., 0]
    assert float(agreed[0]) == expected
    assert bool(agreed[1].isnan())


def test_one_block_one_scale() -> None:
    noise, x = Noise(Relative(1.0)), torch.zeros(3, 2, N)
    x[..., 0] = torch.tensor([[1.0, 10.0], [2.0, 20.0], [0.0, 30.0]])
    out, _ = noise(x, noise.init(x), context(senders(3), 2))
    assert (out - x).std(-1).tolist() == [pytest.approx(row, rel=0.1) for row in ([1, 10], [2, 20], [0, 30])]


def test_only_the_noise_knows_its_plane() -> None:
    root = Path(gradvote.__file__).parent
    library = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in {"lab", "moved.py"}]
    knowing = {
        str(path.relative_to(root))
        for path in library
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == "report"
    }
    assert knowing == {"transforms/noise.py"}


def test_what_is_no_number_and_no_algorithm_is_told() -> None:
    with pytest.raises(TypeError, match=r"b is a number; got '0\.01'"):
        Noise("0.01")  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(TypeError, match=r"noisy takes an algorithm, such as .*; got 'signsgd'"):
        algorithms.noisy("signsgd")  # type: ignore[arg-type]  # a user's mistake
