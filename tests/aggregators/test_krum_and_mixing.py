"""Against transcriptions that share no code with the rules, and against byzfl where it is installed."""

import importlib.util
import sys
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from gradvote.aggregators import Krum, Mean, NearestNeighbourMixing
from gradvote.core import Aggregator, Context


def ask(rule: Aggregator, x: Tensor, valid: Tensor | None = None) -> Tensor:
    ctx = Context(0, 0, torch.zeros(1, dtype=torch.int64), torch.arange(len(x))[:, None])
    flags = torch.ones(len(x), dtype=torch.bool) if valid is None else valid
    return rule(x[:, None], flags[:, None], ctx)[0]


def _byzfl() -> Any:
    """It imports torchvision, which has no build for every torch, and needs nothing of it for its rules."""
    if importlib.util.find_spec("byzfl") is None:
        pytest.skip("a peer to compare with, installed by hand: pip install byzfl==0.0.11")
    inside = ("torchvision", "torchvision.datasets", "torchvision.models", "torchvision.transforms")
    with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in inside}):
        return importlib.import_module("byzfl")


def vectors(M: int, d: int, seed: int) -> Tensor:
    return torch.randn(M, d, generator=torch.Generator().manual_seed(seed))


def written_out_krum(x: Any, f: int, others: int) -> int:
    """Blanchard et al. 2017: s(i) = Σ_{i → j} ‖V_i − V_j‖², over the `others` closest vectors to V_i."""
    scores = []
    for i in range(len(x)):
        apart = sorted(float(((x[i] - x[j]) ** 2).sum()) for j in range(len(x)) if j != i)
        scores.append(sum(apart[:others]))
    return scores.index(min(scores))


def written_out_mixing(x: Any, f: int) -> Any:
    """Allouah et al. 2023, Algorithm 2."""
    mixed = []
    for own in x:
        order = sorted(range(len(x)), key=lambda j: float(((x[j] - own) ** 2).sum()))
        mixed.append(sum(x[j] for j in order[: len(x) - f]) / (len(x) - f))
    return np.stack(mixed)


@pytest.mark.parametrize(("M", "f"), [(1, 0), (3, 1), (5, 2), (7, 2), (8, 3), (20, 9)])
@pytest.mark.parametrize("d", [1, 63, 64, 65, 1000])
def test_krum_chooses_the_papers_worker(M: int, f: int, d: int) -> None:
    for seed in range(3):
        x = vectors(M, d, seed)
        exact = x.double().numpy()
        assert torch.equal(ask(Krum(f), x), x[written_out_krum(exact, f, M - f - 1)])
        assert torch.equal(ask(Krum(f, fewer=1), x), x[written_out_krum(exact, f, max(M - f - 2, 0))])


@pytest.mark.parametrize(("M", "f"), [(1, 0), (3, 1), (7, 2), (8, 3)])
def test_mixing_averages_the_papers_neighbours(M: int, f: int) -> None:
    x = vectors(M, 129, 5)
    mixed = written_out_mixing(x.double().numpy(), f)
    found = ask(NearestNeighbourMixing(f, Mean()), x)
    torch.testing.assert_close(found.double(), torch.from_numpy(mixed.mean(0)), rtol=0, atol=1e-6)
    assert torch.equal(ask(NearestNeighbourMixing(f, Krum(f)), x), _krum_of_mixed(x, f))


def _krum_of_mixed(x: Tensor, f: int) -> Tensor:
    rows = []
    for own in x:
        order = sorted(range(len(x)), key=lambda j: float((x[j].double() - own.double()).square().sum()))
        total = torch.zeros_like(own)
        for j in sorted(order[: len(x) - f]):
            total = total + x[j]
        rows.append(total / (len(x) - f))
    mixed = torch.stack(rows)
    return mixed[written_out_krum(mixed.double().numpy(), f, len(x) - f - 1)]


@pytest.mark.parametrize(("M", "f"), [(5, 1), (7, 3), (20, 6)])
def test_they_equal_byzfl(M: int, f: int) -> None:
    byzfl = _byzfl()
    x = vectors(M, 500, 8)
    assert torch.equal(ask(Krum(f), x), byzfl.Krum(f)(x))
    mixed = byzfl.NNM(f)(x)
    torch.testing.assert_close(ask(NearestNeighbourMixing(f, Mean()), x), mixed.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(ask(NearestNeighbourMixing(f, Krum(f)), x), byzfl.Krum(f)(mixed), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "rule", [Krum(2), Krum(2, fewer=1), NearestNeighbourMixing(2), NearestNeighbourMixing(2, Krum(2))]
)
def test_two_liars_of_seven_far_away_are_never_followed(rule: Aggregator) -> None:
    for size in (10.0, 1e10, 1e38):
        x = vectors(7, 200, 9)
        x[2], x[5] = size, -size
        assert float(ask(rule, x).abs().max()) <= float(x[[0, 1, 3, 4, 6]].abs().max())


@pytest.mark.parametrize("rule", [Krum(2), NearestNeighbourMixing(2, Krum(2))])
def test_who_sent_nothing_is_nobodys_neighbour(rule: Aggregator) -> None:
    x, valid = vectors(7, 40, 10), torch.tensor([True, False, True, True, True, False, True])
    assert torch.equal(ask(rule, x, valid), ask(rule, x[valid]))
    assert ask(rule, x, torch.zeros(7, dtype=torch.bool)).isnan().all()
    only = torch.arange(7) == 4
    assert torch.equal(ask(rule, x, only), x[4])


def test_odd_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="f of at least 0 and fewer of 0 or 1; got f=-1, fewer=0"):
        Krum(-1)
    with pytest.raises(ValueError, match="f of at least 0; got f=-2"):
        NearestNeighbourMixing(-2)
