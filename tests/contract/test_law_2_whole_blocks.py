"""Law 2: a block is never split. A layout of some of the parameters gives the same rows for the same blocks."""

import pytest
import torch
from torch import Tensor

from gradvote.core import Algorithm, Context, Payload, State
from gradvote.layout import Layout, layout_of
from tests.contract.parts import ALGORITHMS, PLAIN, row, same, same_payload, updates

NUMELS, UNITS = (130, 7, 0, 65, 130), (13, 64, 64, 65, 64)
BUCKETS = [(0,), (1, 4), (3, 2)]


class Shard:
    """One worker's half of an algorithm on some of the parameters."""

    def __init__(self, algorithm: Algorithm, layout: Layout) -> None:
        self.algorithm, self.layout = algorithm, layout
        self.states: list[State] = [algorithm.up.init(v) for v in layout.views(torch.zeros(layout.size))]

    def encode(self, tensors: list[Tensor], step: int) -> dict[int, tuple[Payload, State]]:
        """Payload row and state row of each block."""
        flat, rows = self.layout.flatten(tensors, out=torch.empty(self.layout.size)), {}
        for k, (x, group) in enumerate(zip(self.layout.views(flat), self.layout.groups, strict=True)):
            ctx = Context(1, step, group.block_on(x.device), 2, 0.1 / (1 + step), units=group.units_on(x.device))
            payload, self.states[k] = self.algorithm.encode(x, self.states[k], ctx)
            for i, block in enumerate(group.blocks):
                planes = {name: plane[i] for name, plane in payload.planes.items()}
                rows[block] = Payload(payload.valid[i], planes), row(self.states[k], i)
        return rows


@pytest.mark.parametrize(("name", "block_size"), [*((name, 64) for name in ALGORITHMS), *((n, None) for n in PLAIN)])
def test_buckets_are_sets_of_whole_blocks(name: str, block_size: int | None) -> None:
    algorithm, layout = ALGORITHMS[name], layout_of(NUMELS, block_size, UNITS)
    whole, shards = Shard(algorithm, layout), [Shard(algorithm, layout.subset(b)) for b in BUCKETS]
    for step in range(2):
        tensors = [updates(n, seed=10 * step + k) if n else torch.zeros(0) for k, n in enumerate(NUMELS)]
        tensors[0][13 * 3 : 13 * 7] = 0
        expected = whole.encode(tensors, step)
        found: dict[int, tuple[Payload, State]] = {}
        for bucket, shard in zip(BUCKETS, shards, strict=True):
            rows = shard.encode([tensors[p] for p in bucket], step)
            assert not found.keys() & rows.keys()
            found |= rows
        assert found.keys() == expected.keys()
        for block, (payload, state) in expected.items():
            assert same_payload(payload, found[block][0])
            assert same(state, found[block][1])
