"""Where the rows of M workers lie in memory: tables of addresses, grouped by the number of valid rows of a block.

A kernel that reads through addresses needs no copy of a strided input, and no row of a block that abstains.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Rows of `width` items with `count` valid workers each; row i's result starts at item places[i] · width.

    `table` (rows, count · tensors) holds the addresses of their inputs, the tensors in turn for each of its `workers`
    (rows, count), in ascending order.
    """

    count: int
    width: int
    workers: NDArray[np.int64]
    table: NDArray[np.int64]
    places: NDArray[np.int64]


def streamable(x: Tensor, width: int) -> Tensor:
    """x (..., n) with adjacent coordinates and n >= width, padded with zeros or copied where it is not so."""
    if x.shape[-1] < width:
        return torch.nn.functional.pad(x, (0, width - x.shape[-1]))
    return x if x.stride(-1) == 1 else x.contiguous()


def groups(tensors: Sequence[Tensor], valid: Tensor) -> list[Group]:
    """The groups of all rows of tensors (M, ..., n), most rows first; one long row where all can be read as one."""
    flags = valid.reshape(len(valid), -1).numpy()
    if (flags.all() or (flags == flags[:, :1]).all()) and all(x[0].is_contiguous() for x in tensors):
        return [_joined(tensors, flags[:, 0])]
    return sorted(_by_count(tensors, flags), key=lambda group: -len(group.places))


def _joined(tensors: Sequence[Tensor], flags: NDArray[np.bool_]) -> Group:
    workers = flags.nonzero()[0]
    table = np.empty((1, len(workers), len(tensors)), np.int64)
    for index, x in enumerate(tensors):
        table[0, :, index] = workers * (x.stride(0) * x.element_size()) + x.data_ptr()
    width = tensors[0].numel() // len(flags)
    return Group(len(workers), width, workers[None], table.reshape(1, -1), np.zeros(1, np.int64))


def _by_count(tensors: Sequence[Tensor], flags: NDArray[np.bool_]) -> Iterator[Group]:
    table = np.stack([_addresses(x) for x in tensors], -1)
    counts = flags.sum(0)
    for count in np.unique(counts):
        places = (counts == count).nonzero()[0]
        workers = np.nonzero(flags.T[places])[1].reshape(len(places), count)
        chosen = table[workers, places[:, None]].reshape(len(places), -1)
        yield Group(int(count), tensors[0].shape[-1], workers, chosen, places)


def _addresses(x: Tensor) -> NDArray[np.int64]:
    """The address of each row of x (M, ..., n) as (M, rows)."""
    start = np.full((1,) * (x.dim() - 1), x.data_ptr(), np.int64)
    for axis in range(x.dim() - 1):
        steps = np.arange(x.shape[axis], dtype=np.int64) * (x.stride(axis) * x.element_size())
        start = start + steps.reshape(-1, *[1] * (x.dim() - 2 - axis))
    return start.reshape(len(x), -1)
