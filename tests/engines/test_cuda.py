"""On a card: every algorithm in every engine, equal bit for bit to the definitions on the CPU; and nothing waits."""

import pytest
import torch
from torch import Tensor

from gradvote.engines.launch import spawn
from tests.engines import cuda_workers
from tests.engines.cuda_workers import Found
from tests.golden.cases import all_cases

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
CASES = all_cases()
CALM = ("sgd", "mediansgd", "signsgd", "signum", "lion", "ef-signsgd", "dist-ef-sgdm")
"""Those whose kernels have no definition that makes a constant on the card, where there is no faster form."""


@pytest.fixture(scope="module")
def expected() -> Found:
    return cuda_workers.expected()


def assert_alike(found: Found, expected: Found, what: str) -> None:
    different = [name for name, own in found.items() if not same(own, expected[name])]
    assert not different, f"{what}: {different}"


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_simulation(expected: Found) -> None:
    found = {name: cuda_workers.simulated(own, "cuda") for name, own in CASES.items()}
    assert_alike(found, expected, "simulation")


def test_members_of_an_elastic_run(expected: Found) -> None:
    for name, own in CASES.items():
        for member in cuda_workers.replicas(own, "cuda"):
            assert same(member, expected[name]), name


def test_ranks_that_share_a_card(expected: Found) -> None:
    for rank, places in enumerate(spawn(cuda_workers.on_gloo, cuda_workers.WORKERS, "cuda")):
        for place, found in places.items():
            assert_alike(found, expected, f"rank {rank}, {place}")


def test_a_rank_with_nccl() -> None:
    alone = cuda_workers.expected(1)
    for place, found in spawn(cuda_workers.on_nccl, 1)[0].items():
        assert_alike(found, alone, place)


@pytest.mark.parametrize(("backend", "ranks"), [("gloo", 2), ("nccl", 1)])
def test_a_step_waits_for_events_only(backend: str, ranks: int) -> None:
    for waited in spawn(cuda_workers.without_waiting, ranks, backend, CALM):
        assert not waited, "\n".join(waited)
