import torch

from gradvote.engines.launch import spawn
from tests.engines import ddp_workers


def test_every_kind_of_ddp_equals_the_plain_loop_bit_for_bit() -> None:
    for rank, results in enumerate(spawn(ddp_workers.variants, 2)):
        for name, (found, expected) in results.items():
            assert torch.equal(found, expected), (rank, name)
