"""Who serves which blocks. Where the server lives is placement, not algorithm.

`central`: rank 0 serves everything. `sharded`: each rank serves about 1/M of the coordinates. `replicated`: everyone
serves everything for itself, and no decision travels.
"""

import heapq
from typing import Literal

import torch
from torch import Tensor

from gradvote.errors import unknown
from gradvote.layout import Layout
from gradvote.staging import CPU

Placement = Literal["central", "sharded", "replicated"]
PLACEMENTS = ("central", "sharded", "replicated")


def served(layout: Layout, placement: Placement, num_ranks: int) -> Tensor:
    """Which rank serves which block (M, number of blocks) bool, from sizes alone: never from buckets or chunks.

    Raises:
        ValueError: there is no such placement.
    """
    if placement not in PLACEMENTS:
        raise unknown("placement", placement, PLACEMENTS)
    sizes = block_sizes(layout)
    if placement == "replicated":
        return torch.ones(num_ranks, len(sizes), dtype=torch.bool, device=CPU)
    owner = (
        torch.zeros(len(sizes), dtype=torch.int64, device=CPU)
        if placement == "central"
        else _balanced(sizes, num_ranks)
    )
    return owner == torch.arange(num_ranks, device=CPU)[:, None]


def block_sizes(layout: Layout) -> list[int]:
    """The coordinates of each block of a whole layout, by number."""
    sizes = {block: group.n for group in layout.groups for block in group.blocks}
    return [sizes[block] for block in range(len(sizes))]


def _balanced(sizes: list[int], num_ranks: int) -> Tensor:
    """Largest block first, each to the rank with the least so far: equal blocks go round in turn."""
    loads = [(0, rank) for rank in range(num_ranks)]
    owner = torch.empty(len(sizes), dtype=torch.int64, device=CPU)
    for block in sorted(range(len(sizes)), key=lambda b: -sizes[b]):
        load, rank = loads[0]
        owner[block] = rank
        heapq.heapreplace(loads, (load + sizes[block], rank))
    return owner
