"""Signs, noisy signs and moving averages of rows of unequal length, each in one call."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels.cpu import averages, noisy, signs
from gradvote.kernels.cpu.blocks import FORMATS, Words, per_row
from gradvote.kernels.cpu.jit import kernel
from gradvote.kernels.cpu.ragged_bits import mark_units
from gradvote.kernels.cpu.ragged_rows import keep_rows, place_of, position_of, row_at, words_of, zeros_of_rows
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.kernels.ragged_reference import Weights
from gradvote.ragged import WORD, Ragged
from gradvote.rng import Draw
from gradvote.scattered import Vector

PLAIN = FORMATS[torch.float32]
_pack, _noisy, _average = signs._pack, noisy._pack, averages._average
NOTHING, UNITS, WORDS = signs.NOTHING, signs.UNITS, signs.WORDS


def ragged_signs(x: Vector, zeros: Draw | bool, still: bool, rows: Ragged) -> tuple[Tensor, Tensor, Tensor | None]:
    """`ragged_reference.ragged_signs`."""
    words, valid = words_of(rows), torch.ones(rows.num_rows, dtype=torch.bool, device="cpu")
    flags = torch.zeros(int(rows.unit_words[-1]) if still else 0, dtype=torch.int64, device="cpu")
    apart = still and not rows.are_words.all()
    blank = words_of(rows).zero_() if apart else flags
    found = np.zeros(1, np.int64)
    told = (int(still), flags.data_ptr(), blank.data_ptr(), found.ctypes.data)
    source, begins = place_of(x, rows)
    table, rule = (begins, rows.lengths, rows.words), zeros_of_rows(zeros, rows.num_rows)
    job = (source, table, rule, rows.unit_words, rows.are_words)
    results = (told, words.data_ptr(), valid.data_ptr())
    split(lambda start, stop: _pack_rows(*job, *results, start, stop), int(rows.words[-1]), signs.GRAIN)
    if apart and found[0]:
        mark_units(blank, rows, flags, ~rows.are_words)
    return words, valid, flags if still else None


def ragged_averaged_signs(
    old: Tensor, x: Vector, voted: Weights, kept: Weights, zeros: Draw | bool, still: bool, rows: Ragged
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """`ragged_reference.ragged_averaged_signs`, one after the other."""
    out, new = ragged_average(old, voted[0], x, voted[1], rows)
    if voted != kept:
        new = ragged_average(old, kept[0], x, kept[1], rows)[1]
    return *ragged_signs(out, zeros, still, rows), new


def ragged_noisy_signs(
    x: Vector, std: float | Tensor, draw: Draw, distribution: str, zeros: Draw | bool, rows: Ragged
) -> tuple[Tensor, Tensor]:
    """`ragged_reference.ragged_noisy_signs`."""
    words, valid, num = words_of(rows), torch.ones(rows.num_rows, dtype=torch.bool, device="cpu"), rows.num_rows
    stds, starts = per_row(torch.as_tensor(std, dtype=torch.float32, device="cpu"), (num,)), rows.starts(noisy.GROUP)
    draws, (source, begins) = (position_of(draw, num), zeros_of_rows(zeros, num)), place_of(x, rows)
    job = (noisy._kind_of(distribution), source, (begins, rows.lengths, starts), stds, *draws, rows.words)
    results = words.data_ptr(), valid.data_ptr()
    grain = noisy.GRAIN // noisy.GROUP
    split(lambda start, stop: _noisy_rows(*job, *results, start, stop), int(starts[-1]), grain)
    return words, valid


def ragged_average(old: Tensor, beta: float, x: Vector, gain: float, rows: Ragged) -> tuple[Tensor, Tensor]:
    """`ragged_reference.ragged_average`; one tensor twice where all of it is finite."""
    new, whole = spare.empty(old.shape), torch.ones(rows.num_rows, dtype=torch.bool, device="cpu")
    source, begins = place_of(x, rows)
    places, table = (old.data_ptr(), source, new.data_ptr()), (begins, rows.offsets, rows.lengths, rows.words)
    job = (np.float32(beta), np.float32(gain), places, table, whole.data_ptr())
    split(lambda start, stop: _average_rows(*job, start, stop), int(rows.words[-1]), averages.GRAIN)
    if bool(whole.all()):
        return new, new
    kept = new.clone()
    keep_rows(kept, old, ~whole.numpy(), rows)
    return new, kept


@kernel
def _pack_rows(
    x: int,
    table: Any,
    zeros: Any,
    flags_at: Words,
    are_words: Any,
    told: Any,
    words: int,
    valid: int,
    start: int,
    stop: int,
) -> None:
    begins, lengths, starts = table
    rule, key, blocks, senders = zeros
    still, flags, blank, found = told
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        n, own = lengths[row], (rule, key, blocks[row : row + 1], senders[row : row + 1])
        about = (np.int64(NOTHING), np.int64(0), np.int64(0), found)
        if still and are_words[row]:
            about = (np.int64(UNITS), flags + 8 * flags_at[row], flags_at[row + 1] - flags_at[row], found)
        elif still:
            about = (np.int64(WORDS), blank + 8 * starts[row], starts[row + 1] - starts[row], found)
        place = (x + 4 * begins[row], np.int64(0), n)
        _pack((None,), place, n, own, about, words + 8 * starts[row], valid + row, first, last)
        row += 1


@kernel
def _noisy_rows(
    kind: Any,
    x: int,
    table: Any,
    stds: Any,
    draw: Any,
    zeros: Any,
    words_at: Words,
    words: int,
    valid: int,
    start: int,
    stop: int,
) -> None:
    begins, lengths, starts = table
    rule, key, blocks, senders = zeros
    noise_key, noise_blocks, noise_senders = draw
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        n, own = lengths[row], (rule, key, blocks[row : row + 1], senders[row : row + 1])
        drawn = (noise_key, noise_blocks[row : row + 1], noise_senders[row : row + 1])
        place, out = (x + 4 * begins[row], np.int64(0), n), words + 8 * words_at[row]
        _noisy((None,), kind, place, n, stds[row : row + 1], drawn, own, out, valid + row, first, last)
        row += 1


@kernel
def _average_rows(beta: Any, gain: Any, places: Any, table: Any, whole: int, start: int, stop: int) -> None:
    begins, offsets, lengths, starts = table
    old, x, new = places
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        n, begin, width = lengths[row], 4 * offsets[row], starts[row + 1] - starts[row]
        before, added, after = (
            (old + begin, np.int64(0), n),
            (x + 4 * begins[row], np.int64(0), n),
            (new + begin, np.int64(0), n),
        )
        _average(beta, gain, before, added, after, whole + row, width, first, last)
        row += 1


assert WORD == signs.WORD == averages.LANES
