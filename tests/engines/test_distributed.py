import pytest
import torch

from gradvote.distributed import PLACEMENTS
from gradvote.engines.launch import spawn
from tests.engines import workers

SOME = {2: ("sharded",), 3: PLACEMENTS, 4: ("sharded",)}
ALL = dict.fromkeys((2, 3, 4), PLACEMENTS)


@pytest.mark.parametrize("plan", [SOME, pytest.param(ALL, marks=pytest.mark.slow)], ids=["some", "all"])
def test_algorithms_placements_and_numbers_of_ranks_equal_the_simulation_bit_for_bit(
    plan: dict[int, tuple[str, ...]],
) -> None:
    ranks = spawn(workers.train_all, max(plan), plan)
    for size, placements in plan.items():
        for name, algorithm in workers.recipes().items():
            expected = workers.simulate(algorithm, size)
            for placement in placements:
                for rank in range(size):
                    assert torch.equal(ranks[rank][size, name, placement], expected), (size, name, placement, rank)
        for name, faulty in workers.FAULTS.items():
            expected = workers.simulate(workers.recipes()[name], size, faulty)
            for rank in range(size):
                assert torch.equal(ranks[rank][size, name, "faults"], expected), (size, name, rank)
