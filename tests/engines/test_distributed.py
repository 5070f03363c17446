import pytest
import torch

from gradvote.distributed import PLACEMENTS
from gradvote.engines.launch import spawn
from tests.engines import workers


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_every_algorithm_and_placement_equals_the_simulation_bit_for_bit(num_ranks: int) -> None:
    ranks = spawn(workers.train_all, num_ranks, PLACEMENTS)
    for name, algorithm in workers.recipes().items():
        expected = workers.simulate(algorithm, num_ranks)
        for placement in PLACEMENTS:
            for rank, results in enumerate(ranks):
                assert torch.equal(results[name, placement], expected), (name, placement, rank)
