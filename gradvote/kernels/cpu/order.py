"""Mean, median and trimmed mean over M rows of float32 or float64: `reference` on the CPU."""

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu import ranks
from gradvote.kernels.cpu.columns import select, sort_and_select
from gradvote.kernels.cpu.emit import LINE
from gradvote.kernels.cpu.rows import Group, groups, streamable
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.sums import CHUNK, TILE, fold
from gradvote.kernels.cpu.threads import split

LIMIT = 64
"""Rows up to which a network of their own is compiled."""
PART = 1 << 20
"""Bytes of input that are worth a thread."""

_TYPES: dict[torch.dtype, type[np.float32] | type[np.float64]] = {torch.float32: np.float32, torch.float64: np.float64}


def median(x: Tensor, valid: Tensor) -> Tensor:
    """`reference.median`."""
    return trimmed_mean(x, valid, None)


def trimmed_mean(x: Tensor, valid: Tensor, trim: int | None) -> Tensor:
    """`reference.trimmed_mean`: a network for the number of rows most blocks have, a sort in cache for the others.

    More than `LIMIT` rows have no network; their medians are found bit by bit.
    """
    if x.dtype not in _TYPES:
        return reference.trimmed_mean(x, valid, trim)
    rows, out = _prepare(x)
    for index, part in enumerate(groups([rows], valid.expand(x.shape[:-1])) if out.numel() else []):
        middle = (part.count - 1) // 2
        low = middle if trim is None else min(trim, middle)
        if part.count == 0:
            _undecided(part, out)
        elif index == 0 and part.count <= LIMIT:
            _run_select(part, low, out)
        elif low == middle and part.count > LIMIT:
            _run_middle(part, out)
        else:
            _run_sort(part, low, out)
    return _trim(out, x)


def mean(x: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """`reference.mean`."""
    if x.dtype not in _TYPES:
        return reference.mean(x, valid, weights)
    rows, out = _prepare(x)
    for part in groups([rows], valid.expand(x.shape[:-1])) if out.numel() else []:
        if part.count == 0:
            _undecided(part, out)
        else:
            _run_fold(part, weights, out)
    return _trim(out, x)


def _run_select(part: Group, low: int, out: Tensor) -> None:
    kind, size = _TYPES[out.dtype], out.element_size()
    network = ((None,) * part.count, (None,) * low)

    def run(start: int, stop: int) -> None:
        select(kind(0), *network, part.table, part.places, part.width * size, out.data_ptr(), start, stop)

    split(run, *_units(part, size))


def _run_middle(part: Group, out: Tensor) -> None:
    kind, size = _TYPES[out.dtype], out.element_size()

    def run(start: int, stop: int) -> None:
        buffer = ranks.new_buffer(part.count, 8 * size)
        rows = (part.table, part.places, part.width * size, out.data_ptr())
        ranks.middle(kind(0), (None,) * ranks.CHUNK, 8 * size, buffer.ctypes.data, *rows, start, stop)

    split(run, *_units(part, size))


def _run_sort(part: Group, low: int, out: Tensor) -> None:
    kind, size = _TYPES[out.dtype], out.element_size()
    left = kind(part.count - 2 * low)

    def run(start: int, stop: int) -> None:
        lines = np.empty((part.count + 1) * LINE, np.uint8)
        rows = (part.table, part.places, part.width * size, out.data_ptr())
        sort_and_select(kind(0), low, left, *rows, lines.ctypes.data, start, stop)

    split(run, *_units(part, size))


def _run_fold(part: Group, weights: Tensor | None, out: Tensor) -> None:
    kind, size = _TYPES[out.dtype], out.element_size()
    each = None if weights is None else weights.to(out.dtype).numpy()[part.workers]
    total = np.full(len(part.places), part.count, kind) if each is None else np.add.accumulate(each, 1)[:, -1]
    divisors = np.where(total > 0, total, kind(np.nan))
    weight = None if each is None else each.ctypes.data

    def run(start: int, stop: int) -> None:
        buffer = np.empty(TILE, np.uint8)
        rows = (part.table, part.count, weight, divisors, part.places, part.width * size, out.data_ptr())
        fold(kind(0), (None,) * CHUNK, (None,), buffer.ctypes.data, *rows, start, stop)

    split(run, *_units(part, size))


def _units(part: Group, size: int) -> tuple[int, int]:
    """The number of tiles, and how many are worth a thread."""
    return len(part.places) * -(-part.width * size // TILE), -(-PART // (TILE * part.count))


def _prepare(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of adjacent items and at least a line, and a new tensor for the result."""
    rows = streamable(x, LINE // x.element_size())
    return rows, spare.empty(rows.shape[1:], x.dtype)


def _undecided(part: Group, out: Tensor) -> None:
    out.view(-1, part.width)[torch.from_numpy(part.places)] = torch.nan


def _trim(out: Tensor, x: Tensor) -> Tensor:
    return out if out.shape[-1] == x.shape[-1] else out[..., : x.shape[-1]].contiguous()
