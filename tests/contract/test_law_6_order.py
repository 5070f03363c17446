"""Law 6: float reductions have a fixed order, so that placements and groupings give the same bits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote import kernels
from gradvote.aggregators import MajorityVote, Median, TrimmedMean
from gradvote.core import Aggregator
from tests.contract.parts import ALGORITHMS, context, row, same, senders, updates

M, B, N = 5, 4, 70


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_order_of_blocks_is_irrelevant(name: str) -> None:
    """Permuted blocks, and blocks served by two servers, give the same rows."""
    algorithm, order = ALGORITHMS[name], torch.tensor([2, 0, 3, 1])
    x, blocks = updates(M, B, N), torch.arange(30, 30 + B)
    ctx, other = context(senders(M), blocks), context(senders(M), blocks[order])
    ballots, _ = algorithm.encode(x, algorithm.up.init(x), ctx)
    decision, server = algorithm.combine(ballots, algorithm.down.init(x[0]), ctx, N)
    shuffled, _ = algorithm.encode(x[:, order], algorithm.up.init(x), other)
    again, other_server = algorithm.combine(shuffled, algorithm.down.init(x[0]), other, N)
    assert same(algorithm.down.decode(decision, ctx.as_server(), N)[order], _decoded(algorithm, again, other))
    assert same(row(server, order), other_server)
    for part in (slice(0, 1), slice(1, 4)):
        shard = context(senders(M), blocks[part])
        ballots, _ = algorithm.encode(x[:, part], algorithm.up.init(x[:, part]), shard)
        own, _ = algorithm.combine(ballots, algorithm.down.init(x[0, part]), shard, N)
        assert same(algorithm.down.decode(decision, ctx.as_server(), N)[part], _decoded(algorithm, own, shard))


def _decoded(algorithm, decision, ctx):  # type: ignore[no-untyped-def]
    return algorithm.down.decode(decision, ctx.as_server(), N)


@pytest.mark.parametrize("aggregator", [MajorityVote(), Median(), TrimmedMean(1)], ids=repr)
def test_votes_and_medians_do_not_depend_on_the_order_of_workers(aggregator: Aggregator) -> None:
    x, valid = updates(M, B, N), torch.ones(M, B, dtype=torch.bool)
    valid[3, 1] = False
    shuffle = torch.tensor([4, 2, 0, 1, 3])
    a = aggregator(x, valid, context(senders(M), B))
    assert same(a, aggregator(x[shuffle], valid[shuffle], context(senders(M)[shuffle], B)))


@given(n=st.integers(0, 3000), seed=st.integers(0, 100), padding=st.integers(0, 3000))
def test_tree_sum_does_not_see_padding(n: int, seed: int, padding: int) -> None:
    x = torch.randn(2, n, generator=torch.Generator().manual_seed(seed)) * 1e3
    padded = torch.cat((x, torch.zeros(2, padding)), -1)
    assert same(kernels.tree_sum(x), kernels.tree_sum(padded))
    assert kernels.tree_sum(x).tolist() == pytest.approx(x.double().sum(-1).tolist(), rel=1e-4, abs=1e-1)


def test_mean_is_a_left_fold() -> None:
    """In another order these sums would round otherwise."""
    x = torch.tensor([1e8, 1.0, -1e8, 1.0])[:, None, None]
    valid = torch.ones(4, 1, dtype=torch.bool)
    assert float(kernels.mean(x, valid)) == 0.25
    assert float(kernels.mean(x.flip(0), valid)) == 0.0
