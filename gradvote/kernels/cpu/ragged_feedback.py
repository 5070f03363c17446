"""Momentum, error memory and signs of rows of unequal length, in one pass."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu import feedback, trees
from gradvote.kernels.cpu.blocks import FORMATS, Words, per_row
from gradvote.kernels.cpu.jit import kernel
from gradvote.kernels.cpu.ragged_bits import ragged_counts
from gradvote.kernels.cpu.ragged_rows import keep_rows, place_of, row_at, words_of, zeros_of_rows
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.kernels.feedback_reference import Feedback, Inertia
from gradvote.ragged import WORD, Ragged
from gradvote.rng import Draw
from gradvote.scattered import Vector

SPAN = feedback.TILE * WORD
WHOLE = feedback.TILES * SPAN
"""Coordinates of the longest row that is moved as a whole."""
_advance, _drain, _sum, _fold = feedback._advance_tiles, feedback._drain_words, trees._sum_tiles, trees._fold_rows


def ragged_feedback_step(
    x: Vector,
    memory: Tensor,
    ratio: Tensor,
    inertia: Inertia | None,
    keep: Tensor | None,
    zeros: Draw | bool,
    scale: Tensor | None,
    rows: Ragged,
) -> Feedback:
    """`ragged_reference.ragged_feedback_step`."""
    state = [memory] if inertia is None else [memory, inertia.momentum]
    words, num = words_of(rows), rows.num_rows
    valid, new = torch.ones(num, dtype=torch.bool, device="cpu"), [spare.empty(memory.shape) for _ in state]
    found = torch.zeros(num, dtype=torch.float32, device="cpu") if scale is None else scale.float()
    long = int((rows.lengths > WHOLE).sum()) if scale is None else num
    job = _job(rows, inertia, x, state, new, zeros, per_row(ratio.float(), (num,)), per_row(found, (num,)))
    results = words.data_ptr(), valid.data_ptr()
    _advance_all(feedback.GIVEN, job, _masks(keep, 0 if scale is None else -1), results, (0, long), rows.starts(SPAN))
    _advance_all(feedback.MEAN, job, _masks(keep, -1), results, (long, num), rows.starts(WHOLE))
    if scale is None and long:
        found[:long] = _long_means(new[0], keep, rows, long)
        table = rows.offsets, rows.lengths, rows.words
        drain = (new[0].data_ptr(), table, found.numpy(), *_masks(keep, -1), words.data_ptr())
        grain = feedback.GRAIN * feedback.TILE
        split(lambda start, stop: _drain_rows(*drain, start, stop), int(rows.words[long]), grain)
        valid &= found.isfinite()
    _restore(new, state, valid, rows)
    return Feedback(words, valid, found if scale is None else scale, new[0], new[1] if inertia else None)


def ragged_mean_abs(x: Vector, keep: Tensor | None, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_mean_abs`."""
    return _long_means(x, keep, rows, rows.num_rows)


def _job(
    rows: Ragged,
    inertia: Inertia | None,
    x: Vector,
    state: list[Tensor],
    new: list[Tensor],
    zeros: Draw | bool,
    ratios: Any,
    scales: Any,
) -> tuple[Any, ...]:
    """What the kernel is told, but for the rule of scales."""
    kind = feedback.PLAIN if inertia is None else feedback.NESTEROV if inertia.nesterov else feedback.HEAVY_BALL
    source, begins = place_of(x, rows)
    states = ((t.data_ptr() for t in (*own, own[-1])[:2]) for own in (state, new))
    places = source, *(place for own in states for place in own)
    mu = np.float32(0 if inertia is None else inertia.mu)
    table = begins, rows.offsets, rows.lengths, rows.words
    return kind, mu, places, table, ratios, scales, zeros_of_rows(zeros, rows.num_rows)


def _masks(keep: Tensor | None, otherwise: int) -> tuple[bool, Words]:
    """The words of a mask, or one word for all places."""
    if keep is None or not otherwise:
        return False, np.full(1, otherwise, np.int64)
    return True, keep.contiguous().numpy()


def _advance_all(
    rule: tuple[None, ...],
    job: tuple[Any, ...],
    masks: tuple[bool, Words],
    results: tuple[int, int],
    between: tuple[int, int],
    starts: Words,
) -> None:
    first, last = int(starts[between[0]]), int(starts[between[1]])
    if first < last:
        grain = feedback.GRAIN if len(rule) == len(feedback.GIVEN) else 4
        split(
            lambda start, stop: _advance_rows(rule, job, masks, results, starts, first + start, first + stop),
            last - first,
            grain,
        )


def _long_means(x: Vector, keep: Tensor | None, rows: Ragged, num: int) -> Tensor:
    """The mean of |x| of the first `num` rows, over the marked coordinates."""
    starts = rows.starts(SPAN)
    tiles, sums = np.empty(int(starts[num]), np.float32), np.zeros(num, np.float32)
    source, begins = place_of(x, rows)
    kind, mask = (trees.ABSOLUTE, source) if keep is None else (trees.KEPT, keep.data_ptr())
    job = (kind, source, mask, (begins, rows.lengths, rows.words), starts, tiles.ctypes.data)
    split(lambda start, stop: _sum_rows(*job, start, stop), len(tiles), trees.GRAIN)
    _fold_all(tiles, starts, sums)
    total = torch.from_numpy(sums)
    if keep is None:
        return total / torch.from_numpy(rows.lengths[:num])
    return total / ragged_counts(keep, rows)[:num].clamp(min=1)


def _restore(new: list[Tensor], old: list[Tensor], valid: Tensor, rows: Ragged) -> None:
    """Gives the rows that are not valid their old memory, and their old momentum where the new one is not finite."""
    if bool(valid.all()):
        return
    lost = ~valid.numpy()
    keep_rows(new[0], old[0], lost, rows)
    for momentum, before in zip(new[1:], old[1:], strict=True):
        for row in np.flatnonzero(lost):
            place = slice(int(rows.offsets[row]), int(rows.offsets[row + 1]))
            momentum[place] = reference.finite_or(momentum[None, place], before[None, place])[0]


@kernel
def _advance_rows(rule: Any, job: Any, mask: Any, results: Any, starts: Words, start: int, stop: int) -> None:
    kind, mu, places, table, ratios, scales, zeros = job
    masked, masks = mask
    words, valid = results
    begins, offsets, lengths, words_at = table
    x, memory, momentum, new_memory, new_momentum = places
    zero, key, blocks, senders = zeros
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        n, at = lengths[row], 4 * offsets[row]
        own = (
            (x + 4 * begins[row], np.int64(0), n),
            (memory + at, np.int64(0), n),
            (momentum + at, np.int64(0), n),
            (new_memory + at, np.int64(0), n),
            (new_momentum + at, np.int64(0), n),
        )
        own_masks = masks[words_at[row] if masked else 0 :]
        drawn = (zero, key, blocks[row : row + 1], senders[row : row + 1])
        ratio, scale = ratios[row : row + 1], scales[row : row + 1]
        out = words + 8 * words_at[row]
        _advance(kind, mu, own, n, rule, ratio, scale, drawn, masked, own_masks, out, valid + row, first, last)
        row += 1


@kernel
def _drain_rows(
    memory: int, table: Any, scales: Any, masked: bool, masks: Words, words: int, start: int, stop: int
) -> None:
    offsets, lengths, starts = table
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        place, width = (memory + 4 * offsets[row], np.int64(0), lengths[row]), starts[row + 1] - starts[row]
        mask, out = masks[starts[row] if masked else 0 :], words + 8 * starts[row]
        _drain(place, width, scales[row : row + 1], masked, mask, out, first, last)
        row += 1


@kernel
def _sum_rows(kind: Any, x: int, keep: int, table: Any, starts: Words, tiles: int, start: int, stop: int) -> None:
    begins, lengths, words_at = table
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        place = (x + 4 * begins[row], np.int64(0), lengths[row])
        mask = (keep + 8 * words_at[row], np.int64(0), words_at[row + 1] - words_at[row])
        count = starts[row + 1] - starts[row]
        _sum((None,), kind, place, mask, tiles + 4 * starts[row], count, first, last)
        row += 1


@kernel
def _fold_all(tiles: Any, starts: Words, sums: Any) -> None:
    for row in range(len(sums)):
        _fold(tiles[starts[row] : starts[row + 1]].reshape((1, -1)), sums[row : row + 1])


assert len(FORMATS[torch.float32]) == 1
