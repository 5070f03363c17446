import torch

from gradvote.distributed import PLACEMENTS
from gradvote.engines.launch import spawn
from tests.engines import workers

SIZES = (2, 3, 4)


def test_every_algorithm_placement_and_number_of_ranks_equals_the_simulation_bit_for_bit() -> None:
    ranks = spawn(workers.train_all, max(SIZES), SIZES)
    for size in SIZES:
        for name, algorithm in workers.recipes().items():
            expected = workers.simulate(algorithm, size)
            for placement in PLACEMENTS:
                for rank in range(size):
                    assert torch.equal(ranks[rank][size, name, placement], expected), (size, name, placement, rank)
