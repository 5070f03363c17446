"""Draws, masks and packed bits of rows of unequal length, each in one call."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels.cpu import bits, compaction, draws, kept, units
from gradvote.kernels.cpu.blocks import Words, per_row
from gradvote.kernels.cpu.jit import kernel
from gradvote.kernels.cpu.philox import TILES, signed
from gradvote.kernels.cpu.ragged_rows import place_of, row_at, words_of
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.ragged import WORD, Ragged
from gradvote.rng import Draw
from gradvote.scattered import Vector

_fill, _expand, _write = draws._fill, bits._expand, kept._write_rows
_compact, _deposit, _whole, _outside = compaction._compact, compaction._expand, units._whole, units._outside
populations = bits.populations


def ragged_random_bits(draw: Draw, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_random_bits`."""
    return _drawn(draws.BITS, draw, 0, rows)


def ragged_keep_bits(draw: Draw, threshold: int | Tensor, granularity: int, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_keep_bits`."""
    return _drawn(draws.MASK if granularity == 1 else draws.COARSE_MASK, draw, threshold, rows)


def ragged_counts(words: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_counts`."""
    counts = np.empty((*words.shape[:-1], rows.num_rows), np.int64)
    for own, found in zip(_lines(words), counts.reshape(-1, rows.num_rows), strict=True):
        _count_rows(own.ctypes.data, rows.words, found)
    return torch.from_numpy(counts)


def ragged_compact(words: Tensor, keep: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_compact`."""
    return _moved(_compact_rows, words, keep, rows)


def ragged_expand(words: Tensor, keep: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_expand`."""
    return _moved(_expand_rows, words, keep, rows)


def ragged_unpack(words: Tensor, keep: Tensor | None, scales: Tensor, out: Vector, rows: Ragged) -> None:
    """`ragged_reference.ragged_unpack`."""
    numbers = per_row(scales.float(), (rows.num_rows,))
    place, begins = place_of(out, rows)
    table, total = (begins, rows.lengths, rows.words), int(rows.words[-1])
    if keep is None:
        job = (bits.OVERWRITE, words.data_ptr(), table, numbers, place)
        split(lambda start, stop: _unpack_rows(*job, start, stop), total, bits.GRAIN)
        return
    lines = numbers[:, None], np.ones(rows.num_rows, np.float32)
    job_kept = (kept.KEPT, kept.ONE, words.data_ptr(), keep.data_ptr(), 1, table, *lines, place)
    split(lambda start, stop: _mean_rows(*job_kept, start, stop), total, kept.GRAIN)


def ragged_mean(words: Tensor, keep: Tensor | None, scales: Tensor, counts: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_mean`."""
    words, keep = words.contiguous(), None if keep is None else keep.expand_as(words).contiguous()
    senders, out = len(words), spare.empty((rows.size,))
    lines = np.ascontiguousarray(scales.float().expand(senders, rows.num_rows).numpy().T), counts.float().numpy()
    kind, mask = (kept.ALL, words) if keep is None else (kept.KEPT, keep)
    table = rows.offsets, rows.lengths, rows.words
    job = (kind, kept.MANY, words.data_ptr(), mask.data_ptr(), senders, table, *lines, out.data_ptr())
    grain = max(kept.GRAIN // max(senders, 1), 1)
    split(lambda start, stop: _mean_rows(*job, start, stop), int(rows.words[-1]), grain)
    return out


def ragged_whole_units(words: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_whole_units`."""
    flags = torch.zeros((*words.shape[:-1], int(rows.unit_words[-1])), dtype=torch.int64, device="cpu")
    mark_units(words, rows, flags, np.ones(rows.num_rows, np.bool_))
    return flags


def mark_units(words: Tensor, rows: Ragged, flags: Tensor, which: Any) -> None:
    """Writes the flags of the rows in `which`."""
    about = rows.lengths, rows.units, np.maximum(rows.phases, 0)
    for own, found in zip(_lines(words), _lines(flags), strict=True):
        _whole_rows(own, found, rows.words, rows.unit_words, about, which)


def ragged_outside_units(flags: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_outside_units`."""
    out = words_of(rows, *flags.shape[:-1])
    about = rows.lengths, rows.units, np.maximum(rows.phases, 0)
    for own, found in zip(_lines(flags), _lines(out), strict=True):
        _outside_rows(own, found, rows.unit_words, rows.words, about)
    return out


def _lines(x: Tensor) -> Any:
    """The flat vectors of a tensor, as views where it is contiguous."""
    return x.contiguous().view(-1, x.shape[-1]).numpy() if x.numel() else x.reshape(-1, x.shape[-1]).numpy()


def _drawn(kind: tuple[None, ...], draw: Draw, threshold: int | Tensor, rows: Ragged) -> Tensor:
    """Words for each sender of a draw: its leading axes, but for that of the rows, are those of the result."""
    leading = torch.broadcast_shapes(draw.block.shape, draw.sender.shape)[:-1]
    if isinstance(threshold, Tensor):
        leading = torch.broadcast_shapes((*leading, rows.num_rows), threshold.shape)[:-1]
    shape = torch.Size((*leading, rows.num_rows))
    blocks, senders = (per_row(t, shape).reshape(-1, rows.num_rows) for t in (draw.block, draw.sender))
    limits = draws._limits(threshold, shape).reshape(-1, rows.num_rows)
    out, width = words_of(rows, *leading), TILES * draws.WIDTHS[len(kind) - 1]
    starts = rows.starts(WORD * width)
    for i, own in enumerate(out.view(-1, out.shape[-1])):
        table = own.data_ptr(), rows.words, starts
        job = (kind, table, (signed(draw.key), blocks[i], senders[i]), limits[i])
        split(partial(_draw_rows, *job), int(starts[-1]), draws.GRAIN // (TILES * WORD))
    ends, masks = rows.tails
    if len(ends):
        out.numpy()[..., ends] &= masks
    return out


def _moved(move: Any, words: Tensor, keep: Tensor, rows: Ragged) -> Tensor:
    """Bits of each row moved as its mask says."""
    assert rows.longest <= WORD * compaction.PART
    shape = torch.broadcast_shapes(words.shape, keep.shape)
    out = words_of(rows, *shape[:-1]).zero_()
    for job in zip(_lines(words.expand(shape)), _lines(keep.expand(shape)), _lines(out), strict=True):
        split(partial(move, *job, rows.words), rows.num_rows, 16)
    return out


@kernel
def _draw_rows(kind: Any, table: Any, draw: Any, limits: Words, start: int, stop: int) -> None:
    out, words_at, starts = table
    key, blocks, senders = draw
    row = row_at(starts, start)
    while row < len(blocks) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        place = (out + 8 * words_at[row], np.int64(0), words_at[row + 1] - words_at[row])
        drawn = (key, blocks[row : row + 1], senders[row : row + 1])
        _fill(kind, place, starts[row + 1] - starts[row], drawn, limits[row : row + 1], first, last)
        row += 1


@kernel
def _count_rows(words: int, words_at: Words, counts: Words) -> None:
    for row in range(len(counts)):
        counts[row] = populations(words + 8 * words_at[row], words_at[row + 1] - words_at[row])


@kernel
def _compact_rows(words: Words, keep: Words, out: Words, words_at: Words, start: int, stop: int) -> None:
    starts, edges = np.zeros(1, np.int64), np.zeros((1, 3), np.int64)
    for row in range(start, stop):
        begin, end = words_at[row], words_at[row + 1]
        source: Any = (words.ctypes.data + 8 * begin, np.int64(0), end - begin)
        mask: Any = (keep.ctypes.data + 8 * begin, np.int64(0), end - begin)
        target = out[begin:end].reshape((1, -1))
        edges[:] = 0
        _compact(source, mask, 1, starts, target, edges, 0, 1)
        first, last = edges[0, 0], edges[0, 2]
        target[0, 0] |= first
        if last < end - begin:
            target[0, last] |= edges[0, 1]


@kernel
def _expand_rows(words: Words, keep: Words, out: Words, words_at: Words, start: int, stop: int) -> None:
    starts = np.zeros(1, np.int64)
    for row in range(start, stop):
        begin, end = words_at[row], words_at[row + 1]
        source: Any = (words.ctypes.data + 8 * begin, np.int64(0), end - begin)
        mask: Any = (keep.ctypes.data + 8 * begin, np.int64(0), end - begin)
        _deposit(source, mask, 1, starts, out[begin:end].reshape((1, -1)), 0, 1)


@kernel
def _unpack_rows(kind: Any, words: int, table: Any, scales: Any, out: int, start: int, stop: int) -> None:
    begins, lengths, starts = table
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        width = starts[row + 1] - starts[row]
        source, target = (
            (words + 8 * starts[row], np.int64(0), width),
            (out + 4 * begins[row], np.int64(0), lengths[row]),
        )
        _expand(kind, source, target, width, scales[row : row + 1], first, last)
        row += 1


@kernel
def _mean_rows(
    kind: Any,
    many: Any,
    words: int,
    keep: int,
    senders: int,
    table: Any,
    scales: Any,
    counts: Any,
    out: int,
    start: int,
    stop: int,
) -> None:
    begins, lengths, starts = table
    stride = 8 * starts[-1]
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        width, begin = starts[row + 1] - starts[row], 8 * starts[row]
        said, mask = (words + begin, stride, width), (keep + begin, stride, width)
        target = (out + 4 * begins[row], np.int64(0), lengths[row])
        _write(kind, many, said, mask, senders, scales[row], counts[row : row + 1], 1, target, width, first, last)
        row += 1


@kernel
def _whole_rows(words: Words, flags: Words, words_at: Words, flags_at: Words, about: Any, chosen: Any) -> None:
    lengths, length, phases = about
    for row in range(len(lengths)):
        if chosen[row]:
            own = words[words_at[row] : words_at[row + 1]].reshape((1, -1))
            found = flags[flags_at[row] : flags_at[row + 1]].reshape((1, -1))
            _whole(own, lengths[row], length[row], phases[row : row + 1], found, 0, 1)


@kernel
def _outside_rows(flags: Words, words: Words, flags_at: Words, words_at: Words, about: Any) -> None:
    lengths, length, phases = about
    for row in range(len(lengths)):
        own = flags[flags_at[row] : flags_at[row + 1]].reshape((1, -1))
        found = words[words_at[row] : words_at[row + 1]].reshape((1, -1))
        _outside(own, lengths[row], length[row], phases[row : row + 1], found, 0, 1)
