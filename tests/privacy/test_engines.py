"""Accounts in the engines: what is released, what is charged, what a checkpoint and a restart keep, what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

pytest.importorskip("cryptography", reason="noise for privacy needs the extra dp")

from gradvote import algorithms, ddp, local_steps
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.common.releases import check_privacy
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.distributed.exchange import Exchange
from gradvote.engines.simulation import Simulation
from gradvote.privacy import BudgetSpent, Gaussian
from gradvote.transforms import Relative

FAINT = Gaussian(1e-6, 2.0, max_epsilon=None)
"""So little noise that the rest can be seen."""
LOUD = Gaussian(5.0, 2.0, max_epsilon=2.0)


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))


def fill(model: nn.Module, seed: int = 0) -> None:
    torch.manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    next(iter(model.parameters())).grad[0, 0] = torch.nan  # type: ignore[index]


def bounded(model: nn.Module, norm: float) -> list[torch.Tensor]:
    """The gradients, NaN as zero and a missing one as zeros, with at most this norm together."""
    own = [torch.zeros_like(p) if p.grad is None else p.grad.nan_to_num(0.0) for p in model.parameters()]
    length = float(torch.cat([x.flatten() for x in own]).double().norm())
    return [x * min(1.0, norm / length) for x in own]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def replica(ledger: Path, algorithm: Algorithm | None = None) -> Replica:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    privacy = Gaussian(5.0, 2.0, ledger=ledger)
    return Replica(model, optimizer, algorithm or algorithms.sgd(), 0, 0, None, privacy=privacy)


def test_an_attempt_that_is_tried_again_sends_the_same_release_and_is_charged_once(tmp_path: Path) -> None:
    one = replica(tmp_path / "ledger")
    assert one.releases is not None
    fill(one.model)
    ballots = [one.vote(Slot(4, attempt)).body for attempt in range(2)]
    fill(one.model, seed=9)  # torchft tries a step again with the next gradients
    ballots.append(one.vote(Slot(4, 2)).body)
    assert ballots[0] == ballots[1] == ballots[2] and one.releases.account.releases == 1
    assert one.vote(Slot(5)).body != ballots[0] and one.releases.account.releases == 2
    fresh = replica(tmp_path / "ledger")  # started again without a checkpoint
    assert fresh.releases is not None and fresh.releases.account.releases == 2


def test_a_checkpoint_older_than_the_ledger_forgets_nothing(tmp_path: Path) -> None:
    one = replica(tmp_path / "ledger")
    fill(one.model)
    one.vote(Slot(1))
    state = one.state_dict()
    one.vote(Slot(2))
    one.load_state_dict(state)
    assert one.releases is not None and one.releases.account.releases == 2
    other = Replica(net_ := net(), torch.optim.SGD(net_.parameters(), lr=0.1), algorithms.sgd(), 0, 0, None)
    with pytest.raises(ValueError, match="run under an account, with 1 releases"):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match="saved without privacy="):
        one.load_state_dict(other.state_dict())


def test_two_processes_with_one_ledger(tmp_path: Path) -> None:
    one, two = replica(tmp_path / "ledger"), replica(tmp_path / "ledger")
    fill(one.model)
    one.vote(Slot(1))
    fill(two.model)
    with pytest.raises(RuntimeError, match="Another process has written"):
        two.vote(Slot(1))


def test_an_exchange_bounds_hides_and_counts(alone: None) -> None:
    model = net()
    exchange = Exchange(model.named_parameters(), algorithms.sgd(), privacy=FAINT, check_parameters_every=None)
    fill(model)
    last = list(model.parameters())[-1]
    last.grad = None  # that it has none is not told either
    expected = bounded(model, FAINT.max_norm)
    exchange.step()
    for p, own in zip(model.parameters(), expected, strict=True):
        assert p.grad is not None and torch.allclose(p.grad, own, atol=1e-4)
    assert last.grad is not None and exchange.stats().abstentions == (0,) and exchange.account is not None
    state = exchange.state_dict()
    model.zero_grad()
    fill(model)
    exchange.step()
    exchange.load_state_dict(state)
    assert exchange.account.releases == 2 and exchange._session.step == 1
    plain = Exchange(net().named_parameters(), algorithms.sgd(), check_parameters_every=None)
    with pytest.raises(ValueError, match="under an account"):
        plain.load_state_dict(state)


def test_a_run_stops_before_its_limit_with_all_as_it_was(alone: None) -> None:
    model = net()
    exchange = Exchange(model.named_parameters(), algorithms.signsgd(), privacy=LOUD, check_parameters_every=None)
    assert exchange.account is not None
    for _ in range(allowed := exchange.account.left):
        model.zero_grad()
        fill(model)
        exchange.step()
    assert allowed > 3 and exchange.account.epsilon() <= 2.0 and exchange.account.left == 0
    model.zero_grad()
    fill(model)
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    with pytest.raises(BudgetSpent, match="max_epsilon=2"):
        exchange.step()
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(before, after, strict=True))


def test_the_hook_releases_all_buckets_at_once(alone: None) -> None:
    model = DistributedDataParallel(net(), bucket_cap_mb=0.0001)
    vote = ddp.attach(model, algorithms.sgd(), privacy=FAINT, check_parameters_every=None)
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    plain = net()
    for number in (1, 2):
        for each in (model, plain):
            each.zero_grad()
            (each(x).square().sum() * 5).backward()
        expected = bounded(plain, FAINT.max_norm)
        for p, own in zip(model.parameters(), expected, strict=True):
            assert p.grad is not None and torch.allclose(p.grad, own, atol=1e-4)
        assert vote.account is not None and vote.account.releases == number
    with pytest.raises(ValueError, match="adds up the gradients of all examples"):
        ddp.attach(DistributedDataParallel(net()), algorithms.sgd(), privacy=Gaussian(1, 1, unit="example"))


def test_the_simulation_releases_each_worker(alone: None) -> None:
    params = list(net().parameters())
    simulation = Simulation(protocol_for(params, algorithms.sgd(), 0), 3, privacy=FAINT)
    given = torch.randn(3, simulation.protocol.layout.size) * torch.tensor([[0.01], [1.0], [30.0]])
    given[1, 5] = torch.nan
    direction = simulation.step(given, 0, 1.0)
    rows = given.nan_to_num(0.0)
    expected = (rows * (FAINT.max_norm / rows.norm(dim=1, keepdim=True)).clamp(max=1.0)).mean(0)
    assert torch.allclose(direction, expected, atol=1e-4) and int(simulation.counts.abstentions.sum()) == 0
    simulation.step(given, 0, 1.0)
    state = simulation.state_dict()
    assert simulation.account is not None and simulation.account.releases == 2
    again = Simulation(simulation.protocol, 3, privacy=FAINT)
    again.load_state_dict(state)
    assert again.account is not None and again.account.releases == 2
    with pytest.raises(ValueError, match="under an account"):
        Simulation(simulation.protocol, 3).load_state_dict(state)
    with pytest.raises(ValueError, match="noise_multiplier="):
        Simulation(simulation.protocol, 3, privacy=LOUD).load_state_dict(state)


def test_local_steps_release_the_way_once_a_round(alone: None) -> None:
    model = net()
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    given: dict[str, Any] = {"every": 2, "outer": lambda params: torch.optim.SGD(params, lr=1.0)}
    local = local_steps.attach(model, inner, algorithms.sgd(), privacy=FAINT, check_parameters_every=None, **given)
    before = [p.detach().clone() for p in model.parameters()]
    for seed in (1, 2):
        inner.zero_grad()
        torch.manual_seed(seed)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        ways = [x - p.detach() + 0.1 * p.grad for x, p in zip(before, model.parameters(), strict=True)]  # type: ignore[operator]
        inner.step()
        local.step()
    length = float(torch.cat([w.flatten() for w in ways]).norm())
    for x, p, way in zip(before, model.parameters(), ways, strict=True):
        assert torch.allclose(p, x - way * min(1.0, FAINT.max_norm / length), atol=1e-4)
    assert local.vote.account.releases == 1
    with pytest.raises(ValueError, match="After local steps nobody knows"):
        local_steps.attach(model, inner, algorithms.sgd(), privacy=Gaussian(1, 1, unit="example"), **given)
    with pytest.raises(ValueError, match="account of its own"):
        local_steps.attach_fragments(model, inner, algorithms.sgd(), fragments=2, privacy=FAINT, **given)


SIGN = algorithms.signsgd()
REFUSED: list[tuple[str, Algorithm, dict[str, Any]]] = [
    ("as large as the data say", algorithms.noisy(SIGN, Relative(0.1)), {"keyed": True}),
    ("is laplace", algorithms.noisy(SIGN, 0.1, "laplace"), {"keyed": True}),
    ("behind a momentum or a memory", algorithms.noisy(algorithms.signum(), 0.1, position="vote"), {"keyed": True}),
    ("behind a momentum or a memory", algorithms.noisy(algorithms.ef_signsgd(), 0.1, position="vote"), {"keyed": True}),
    ("derived from the seed", algorithms.noisy(SIGN, 0.1), {"keyed": False}),
    ("scaler", SIGN, {"keyed": True, "scaler": GradScaler("cpu")}),
    ("leave max_norm=1.0 out", SIGN, {"keyed": True, "max_norm": 1.0}),
    ("ledger=FILE", SIGN, {"keyed": True, "restarts": True}),
]


@pytest.mark.parametrize(("words", "algorithm", "given"), REFUSED, ids=lambda v: v[:12] if isinstance(v, str) else "")
def test_what_an_account_cannot_have_beside_it(words: str, algorithm: Algorithm, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=words):
        check_privacy(FAINT, algorithm, **given)


def test_what_it_can_have() -> None:
    for algorithm in (SIGN, algorithms.noisy(SIGN, 0.1), algorithms.noisy(algorithms.signum(), 0.1)):
        check_privacy(FAINT, algorithm, keyed=True)
    check_privacy(FAINT, algorithms.dist_ef_sgdm(), keyed=False)
    with pytest.raises(TypeError, match=r"takes a gradvote.privacy.Gaussian; got the text"):
        check_privacy("gaussian", SIGN, keyed=True)  # type: ignore[arg-type]
