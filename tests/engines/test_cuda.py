"""On a card: every algorithm in every engine, equal bit for bit to the definitions on the CPU; and nothing waits."""

import importlib.util

import pytest
import torch
from torch import Tensor

from gradvote.engines.launch import spawn
from tests.engines import cuda_workers
from tests.engines.cuda_workers import Found
from tests.golden.cases import all_cases
from tests.on_card import DEVICE

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand"),
    pytest.mark.skipif(DEVICE != "cuda", reason="kernels are interpreted; GRADVOTE_TEST_DEVICE=cuda has them compiled"),
]
CASES = all_cases()
DEFINED = ("sgd", "mediansgd", "signsgd", "signum", "lion", "ef-signsgd", "dist-ef-sgdm")
CALM = tuple(CASES) if importlib.util.find_spec("triton") else DEFINED
"""The definitions of some kernels, which run where there is no Triton, make constants on the card and wait."""
PARTS = 8
"""Each test takes the cases in so many parts, which processes may share."""


@pytest.fixture(params=range(PARTS), ids="part-{}".format)
def names(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return tuple(CASES)[request.param :: PARTS]


def assert_alike(found: Found, expected: Found, what: str) -> None:
    different = [name for name, own in found.items() if not same(own, expected[name])]
    assert not different, f"{what}: {different}"


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_simulation(names: tuple[str, ...]) -> None:
    found = {name: cuda_workers.simulated(CASES[name], "cuda") for name in names}
    assert_alike(found, cuda_workers.expected(names), "simulation")


def test_members_of_an_elastic_run(names: tuple[str, ...]) -> None:
    members = [*zip(*(cuda_workers.replicas(CASES[name], "cuda") for name in names), strict=True)]
    for member in members:
        assert_alike(dict(zip(names, member, strict=True)), cuda_workers.expected(names), "elastic")


def test_ranks_that_share_a_card(names: tuple[str, ...]) -> None:
    expected = cuda_workers.expected(names)
    for rank, (places, halves) in enumerate(spawn(cuda_workers.on_gloo, cuda_workers.WORKERS, "cuda", names)):
        for place, found in places.items():
            assert_alike(found, expected, f"rank {rank}, {place}")
        assert all(same(there, here) for there, here in halves), f"rank {rank}, bfloat16"


def test_a_rank_with_nccl(names: tuple[str, ...]) -> None:
    alone = cuda_workers.expected(names, 1)
    for place, found in spawn(cuda_workers.on_nccl, 1, names)[0].items():
        assert_alike(found, alone, place)


@pytest.mark.parametrize(("backend", "ranks"), [("gloo", 2), ("nccl", 1)])
def test_a_step_waits_for_events_only(backend: str, ranks: int, names: tuple[str, ...]) -> None:
    calm = tuple(name for name in names if name in CALM)
    for waited in spawn(cuda_workers.without_waiting, ranks, backend, calm):
        assert not waited, "\n".join(waited)
