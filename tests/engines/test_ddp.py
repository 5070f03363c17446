from typing import Any

import pytest
import torch

from tests.engines import ddp_workers
from tests.forked import spawn


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return spawn(ddp_workers.everything, 2)


def test_every_kind_of_ddp_equals_the_plain_loop_bit_for_bit(ranks: list[Any]) -> None:
    for rank, results in enumerate(ranks):
        for name, (found, expected) in results["variants"].items():
            assert torch.equal(found, expected), (rank, name)


def test_small_buckets_travel_together(ranks: list[Any]) -> None:
    apart, some_together, together = ranks[0]["exchanges"]
    assert apart > some_together > together == 1


def test_statistics_stay_each_ranks_own_until_they_are_averaged(ranks: list[Any]) -> None:
    (first, second), mean = ranks[0]["statistics"]
    assert not torch.equal(first, second)
    torch.testing.assert_close(mean, (first + second) / 2)
    assert torch.equal(ranks[1]["statistics"][1], mean)


def test_models_that_cannot_vote_are_refused(ranks: list[Any]) -> None:
    errors = ranks[1]["refusals"]
    assert "takes a torch DistributedDataParallel model; got a model (Sequential)" in errors["plain"]
    assert "FSDP2 models have no DDP hook" in errors["fsdp"] and "gradvote.fsdp.attach" in errors["fsdp"]
    assert "needs every worker's whole vector at once" in errors["whole vectors"]
