"""Rules that need whole vectors get them in every engine, whatever the groups of the layout; `test_distributed` and
`test_ddp` compare the real engines with the simulation."""

import math

import pytest
import torch
from torch import Tensor, nn

from gradvote import algorithms
from gradvote.aggregators import Krum, Mean, NearestNeighbourMixing
from gradvote.core import Aggregator, Algorithm, Context
from gradvote.elastic import attach
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation

SHAPES = [(40, 5), (300,), (7,), (1,)]
SIZES = [math.prod(shape) for shape in SHAPES]
D, M = sum(SIZES), 7


def algorithm(rule: Aggregator, block_size: int = 64) -> Algorithm:
    plain = algorithms.sgd()
    return Algorithm(plain.up, rule, plain.down, block_size)


def simulation(rule: Aggregator, block_size: int = 64) -> Simulation:
    return Simulation(protocol_for([torch.zeros(shape) for shape in SHAPES], algorithm(rule, block_size), 0), M)


def alone(rule: Aggregator, x: Tensor) -> Tensor:
    """What the rule gives for whole vectors (M, d)."""
    ctx = Context(0, 0, torch.zeros(1, dtype=torch.int64), torch.arange(len(x))[:, None])
    return rule(x[:, None], torch.ones(len(x), 1, dtype=torch.bool), ctx)[0]


@pytest.mark.parametrize("block_size", [1, 64, 16384])
@pytest.mark.parametrize("rule", [Krum(2), NearestNeighbourMixing(2, Mean()), NearestNeighbourMixing(2, Krum(2))])
def test_the_rule_sees_one_vector_whatever_the_blocks_are(rule: Aggregator, block_size: int) -> None:
    x = torch.randn(M, D, generator=torch.Generator().manual_seed(1))
    sim = simulation(rule, block_size)
    assert torch.equal(sim.step(x, 0, 1.0), alone(rule, x))


def test_krum_takes_all_layers_of_one_worker() -> None:
    """Each layer has another worker in its middle; blocks on their own would choose four workers."""
    x = torch.randn(M, D, generator=torch.Generator().manual_seed(2))
    sim = simulation(Krum(2))
    direction = sim.step(x, 0, 1.0)
    layers = zip(sim.protocol.layout.views(x), sim.protocol.layout.views(direction), strict=True)
    chosen = [{i for i in range(M) if torch.equal(own[i], found)} for own, found in layers]
    assert set.intersection(*chosen) and all(len(workers) == 1 for workers in chosen)


def test_a_worker_without_a_layer_counts_and_a_minority_moves_none_alone() -> None:
    layout = simulation(Krum(2)).protocol.layout
    x = torch.randn(M, D, generator=torch.Generator().manual_seed(3))
    tensors = [[torch.empty(shape) for shape in SHAPES] for _ in range(M)]
    for row, own in zip(x, tensors, strict=True):
        layout.unflatten(row, own)
    for i in range(3):
        tensors[i][0].fill_(torch.nan)
    for i in range(4):
        tensors[i][1].fill_(torch.nan)
    partly = torch.stack([layout.flatten(own, torch.empty(D)) for own in tensors])
    sim = simulation(Krum(2))
    direction = sim.step(partly, 0, 1.0)
    assert sim.decided == [frozenset({0, 2, 3})], "three of seven sent the second layer"
    found = [torch.zeros(shape) for shape in SHAPES]
    layout.unflatten(direction, found)
    whole = alone(Krum(2), partly.nan_to_num(0.0))
    expected = [torch.zeros(shape) for shape in SHAPES]
    layout.unflatten(whole, expected)
    assert all(torch.equal(found[i], expected[i]) for i in (0, 2, 3))
    assert not found[1].any()


def test_members_of_an_elastic_run_and_torchft_decide_on_whole_vectors() -> None:
    rule, members = Krum(1), [_replica(i) for i in range(5)]
    gradients = torch.randn(5, 13 * 5 + 5, generator=torch.Generator().manual_seed(4))
    for own, row in zip(members, gradients, strict=True):
        own.protocol.layout.unflatten(row, [p.grad for p in own.params if p.grad is not None])
    ballots = {own.number: own.vote(Slot()).body for own in members}
    before = torch.cat([p.detach().flatten() for p in members[0].params])
    members[0].apply(Slot(), ballots)
    moved = before - torch.cat([p.detach().flatten() for p in members[0].params])
    steps = [torch.zeros(p.shape) for p in members[0].params]
    members[0].protocol.layout.unflatten(alone(rule, gradients), steps)
    torch.testing.assert_close(moved, torch.cat([s.flatten() for s in steps]))


def test_elastic_shards_are_refused() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"Krum\(f=1, fewer=0\) needs every worker's whole vector.*'replicated'"):
        attach(model, torch.optim.SGD(model.parameters(), 0.1), algorithm(Krum()), min_workers=1, placement="sharded")


def _replica(number: int) -> Replica:
    torch.manual_seed(0)
    model = nn.Linear(13, 5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    return Replica(model, torch.optim.SGD(model.parameters(), 1.0), algorithm(Krum(1)), number, 3, None)
