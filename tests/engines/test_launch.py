import os

import pytest
import torch
import torch.distributed as dist

from gradvote.engines.launch import spawn
from gradvote.errors import WorkerFailed


def rank_and_tensor(scale: float) -> tuple[int, torch.Tensor]:
    x = torch.ones(5) * scale
    dist.all_reduce(x)
    return dist.get_rank(), x


def failing(kind: str) -> None:
    if dist.get_rank() == 1:
        if kind == "exit":
            os._exit(7)
        raise KeyError("a name that rank 1 did not find")
    dist.all_reduce(torch.ones(1))


def test_results_come_in_order_of_ranks() -> None:
    results = spawn(rank_and_tensor, 2, 3.0)
    assert [rank for rank, _ in results] == [0, 1]
    assert all(x.tolist() == [6.0] * 5 for _, x in results)


@pytest.mark.parametrize(("kind", "text"), [("raise", "a name that rank 1 did not find"), ("exit", "exit code 7")])
def test_the_rank_at_fault_shows_its_own_traceback(kind: str, text: str) -> None:
    with pytest.raises(WorkerFailed, match="Rank 1 failed") as failure:
        spawn(failing, 2, kind, timeout=30)
    assert text in str(failure.value)


def test_a_world_needs_a_rank() -> None:
    with pytest.raises(ValueError, match="at least one process"):
        spawn(rank_and_tensor, 0, 1.0)
