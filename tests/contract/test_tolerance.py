"""What a rule says it tolerates, it tolerates: so many liars move nothing on which all honest workers agree."""

import pytest
import torch

from gradvote import algorithms
from gradvote.core import Aggregator
from tests.contract.parts import AGGREGATORS, PLAIN, context, flat, senders, updates

B, N = 2, 70


@pytest.mark.parametrize("aggregator", flat(AGGREGATORS))
@pytest.mark.parametrize("num_workers", [1, 3, 4, 7])
def test_so_many_liars_do_not_matter(aggregator: Aggregator, num_workers: int) -> None:
    liars = aggregator.tolerates(num_workers)
    assert 0 <= 2 * liars < num_workers
    honest = updates(B, N).expand(num_workers, B, N)
    valid, ctx = torch.ones(num_workers, B, dtype=torch.bool), context(senders(num_workers), B)
    expected = aggregator(honest, valid, ctx)
    moving = honest != 0  # of a zero nobody's sign is known
    for lie in (-1000.0, 1000.0, -honest[0] * 50, updates(B, N, seed=1) * 100):
        for first in {0, num_workers - liars}:
            told = honest.clone()
            told[first : first + liars] = lie
            torch.testing.assert_close(aggregator(told, valid, ctx)[moving[0]], expected[moving[0]])


@pytest.mark.parametrize("name", PLAIN)
def test_whom_an_algorithm_trusts_follows_from_its_rule(name: str) -> None:
    trust = algorithms.facts(name).trust
    assert trust in ("every worker", "a majority")
    assert PLAIN[name].aggregate.tolerates(7) == (3 if trust == "a majority" else 0)
