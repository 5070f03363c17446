import pytest
import torch

from gradvote.distributed import PLACEMENTS
from tests.engines import workers
from tests.forked import spawn

NAMES = tuple(workers.recipes())
PATHS = ("signum", "dropsignsgd", "dist-ef-sgdm", "relative")
"""One of each kind: a vote on bits, masks, memories on both sides, an exchanged statistic."""
WHOLE = tuple(workers.whole())
SOME: workers.Plan = {
    2: {"sharded": PATHS[:2]},
    3: {"sharded": NAMES, "central": PATHS + WHOLE, "replicated": PATHS + WHOLE},
    4: {"sharded": PATHS[2:], "replicated": PATHS[:1]},
}
ALL: workers.Plan = {size: dict.fromkeys(PLACEMENTS, NAMES) for size in (2, 3, 4)}


@pytest.mark.parametrize("plan", [SOME, pytest.param(ALL, marks=pytest.mark.slow)], ids=["some", "all"])
def test_algorithms_placements_and_numbers_of_ranks_equal_the_simulation_bit_for_bit(plan: workers.Plan) -> None:
    ranks = spawn(workers.train_all, max(plan), plan)
    for size in plan:
        expected = workers.simulate_all(plan, size)
        for rank in range(size):
            assert ranks[rank][size].keys() == expected.keys()
            for case, parameters in expected.items():
                assert torch.equal(ranks[rank][size][case], parameters), (size, case, rank)
