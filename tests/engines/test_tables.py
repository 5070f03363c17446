"""Rows of embeddings that no worker touched stay where they are, to the bit, in buckets, shards and chunks."""

import pytest
import torch

from tests.engines import table_workers
from tests.engines.table_workers import COLUMNS, ROWS, tables, tokens
from tests.forked import spawn

RANKS = 2


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], list[torch.Tensor]]:
    results: list[dict[tuple[str, str], list[torch.Tensor]]] = spawn(table_workers.everything, RANKS)
    return results[0]


@pytest.mark.parametrize("engine", ["ddp", "sharded", "replicated"])
@pytest.mark.parametrize("name", table_workers.RECIPES)
def test_untouched_rows_stay_and_touched_ones_do_not(
    name: str, engine: str, found: dict[tuple[str, str], list[torch.Tensor]]
) -> None:
    touched = torch.zeros(ROWS, dtype=torch.bool)
    touched[torch.cat([tokens(rank).flatten() for rank in range(RANKS)])] = True
    before = [p.detach() for p in tables().parameters()]
    for columns, old, new in zip(COLUMNS, before, found[name, engine], strict=True):
        assert torch.equal(old[~touched], new[~touched]), columns
        assert bool((old != new)[touched].all(1).all()), columns


@pytest.mark.parametrize("name", table_workers.RECIPES)
def test_engines_agree(name: str, found: dict[tuple[str, str], list[torch.Tensor]]) -> None:
    first, *others = (found[name, engine] for engine in ("ddp", "sharded", "replicated"))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
