"""Kernels for rows of unequal length, as definitions: group by group of equal rows, by those of `reference`.

Shapes: `rows` are B rows with d coordinates and W words in all (`gradvote.ragged`); x (d,), words (..., W), one number
or flag of each row (..., B), marked units (..., U).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gradvote.core import Units
from gradvote.kernels import reference, rounding_reference, units_reference
from gradvote.kernels.adam_reference import Betas, Moments, adam_step
from gradvote.kernels.feedback_reference import Feedback, Inertia, feedback_step
from gradvote.ragged import Numbers, Ragged
from gradvote.rng import Draw
from gradvote.scattered import Scattered, Vector, vector_of

Weights = tuple[float, float]
"""β and γ of an average."""


def ragged_signs(x: Vector, zeros: Draw | bool, still: bool, rows: Ragged) -> tuple[Tensor, Tensor, Tensor | None]:
    """Words (W,) of signs, validity flags (B,), and words (U,) that mark units of zeros, if they are asked for."""
    found = []
    for own, g in zip(_rectangles(vector_of(x), rows.offsets, rows), _each(rows, x.device), strict=True):
        if still:
            found.append(units_reference.still_pack_signs(own, g.of(zeros), g.units))
        else:
            found.append((*reference.checked_pack_signs(own, g.of(zeros)), own))
    words, valid, flags = zip(*found, strict=True)
    return _flat(words), torch.cat(valid), _flat(flags) if still else None


def ragged_averaged_signs(
    old: Tensor, x: Vector, voted: Weights, kept: Weights, zeros: Draw | bool, still: bool, rows: Ragged
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """`ragged_signs` of β·old + γ·x with the weights (β, γ) of `voted`; and what `ragged_average` keeps with others."""
    out, _ = ragged_average(old, voted[0], x, voted[1], rows)
    return *ragged_signs(out, zeros, still, rows), ragged_average(old, kept[0], x, kept[1], rows)[1]


def ragged_noisy_signs(
    x: Vector, std: float | Tensor, draw: Draw, distribution: str, zeros: Draw | bool, rows: Ragged
) -> tuple[Tensor, Tensor]:
    """Words (W,) of the signs of x + b·ξ and validity flags (B,); b is a number or one for each row."""
    pairs = [
        reference.noisy_pack_signs(own, g.of(std), g.of(draw), distribution, g.of(zeros))
        for own, g in zip(_rectangles(vector_of(x), rows.offsets, rows), _each(rows, x.device), strict=True)
    ]
    return _flat([words for words, _ in pairs]), torch.cat([valid for _, valid in pairs])


def ragged_average(old: Tensor, beta: float, x: Vector, gain: float, rows: Ragged) -> tuple[Tensor, Tensor]:
    """β·old + γ·x, and the same with `old` in each row where that is not finite; x `bounded`."""
    pairs = [
        reference.moving_average(before, beta, own, gain)
        for before, own in zip(*(_rectangles(t, rows.offsets, rows) for t in (old, vector_of(x))), strict=True)
    ]
    return _flat([new for new, _ in pairs]), _flat([kept for _, kept in pairs])


def ragged_adam_step(x: Vector, old: Moments, betas: Betas, rows: Ragged) -> tuple[Tensor, Moments]:
    """`adam_step` with averages (d,) and their weights (B,)."""
    found = []
    parts = zip(*(_rectangles(t, rows.offsets, rows) for t in (vector_of(x), old.m, old.v)), strict=True)
    for g, (own, m, v) in zip(_each(rows, x.device), parts, strict=True):
        found.append(adam_step(own, Moments(m, v, g.of(old.m_weight), g.of(old.v_weight)), betas))
    new = [own for _, own in found]
    weights = (torch.cat([own.m_weight for own in new]), torch.cat([own.v_weight for own in new]))
    moments = Moments(_flat([own.m for own in new]), _flat([own.v for own in new]), *weights)
    return _flat([update for update, _ in found]), moments


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
    """`feedback_step` with ratio and scale (B,) or (), keep (W,)."""
    steps = []
    pairs = zip(*(_rectangles(t, rows.offsets, rows) for t in (vector_of(x), memory)), strict=True)
    for g, (own, e) in zip(_each(rows, x.device), pairs, strict=True):
        moving = None if inertia is None else Inertia(g.coordinates(inertia.momentum), inertia.mu, inertia.nesterov)
        mask = None if keep is None else g.words(keep)
        steps.append(feedback_step(own, e, g.of(ratio), moving, mask, g.of(zeros), g.of(scale)))
    scales = scale if scale is not None else torch.cat([s.scale for s in steps])
    momentum = None if inertia is None else _flat([s.momentum for s in steps if s.momentum is not None])
    valid = torch.cat([s.valid for s in steps])
    return Feedback(_flat([s.bits for s in steps]), valid, scales, _flat([s.memory for s in steps]), momentum)


def ragged_mean_abs(x: Vector, keep: Tensor | None, rows: Ragged) -> Tensor:
    """The mean of |x| of each row, over the marked coordinates."""
    vector = vector_of(x)
    return torch.cat(
        [
            reference.mean_abs(g.coordinates(vector), None if keep is None else g.words(keep)).expand(g.stop - g.start)
            for g in _each(rows, x.device)
        ]
    )


def ragged_random_bits(draw: Draw, rows: Ragged) -> Tensor:
    """Fair bits for each coordinate of each row."""
    return _flat([reference.random_bits(g.of(draw), g.n) for g in _each(rows, draw.block.device)])


def ragged_keep_bits(draw: Draw, threshold: int | Tensor, granularity: int, rows: Ragged) -> Tensor:
    """Masks of each row: `reference.keep_bits`."""
    each = _each(rows, draw.block.device)
    return _flat([reference.keep_bits(g.of(draw), g.n, g.of(threshold), granularity) for g in each])


def ragged_counts(words: Tensor, rows: Ragged) -> Tensor:
    """How many bits of each row are set."""
    return torch.cat([reference.count_bits(g.words(words)) for g in _each(rows, words.device)], -1)


def ragged_compact(words: Tensor, keep: Tensor, rows: Ragged) -> Tensor:
    """The kept bits of each row, moved to its beginning; zeros behind them."""
    return _flat([reference.compact(g.words(words), g.words(keep), g.width) for g in _each(rows, words.device)])


def ragged_expand(words: Tensor, keep: Tensor, rows: Ragged) -> Tensor:
    """The inverse: bits outside `keep` are zero."""
    return _flat([reference.expand(g.words(words), g.words(keep)) for g in _each(rows, words.device)])


def ragged_unpack(words: Tensor, keep: Tensor | None, scales: Tensor, out: Vector, rows: Ragged) -> None:
    """Writes ±scale of each row for words (W,) into `out` (d,), zero outside `keep`."""
    vector = vector_of(out)
    for g in _each(rows, words.device):
        target = g.coordinates(vector)
        if keep is None:
            target.copy_(reference.unpack_signs(g.words(words), g.n, g.of(scales)))
        else:
            target.copy_(reference.unpack_kept(g.words(words), g.words(keep), g.n, g.of(scales)))
    if isinstance(out, Scattered):
        out.put(vector)


def ragged_mean(words: Tensor, keep: Tensor | None, scales: Tensor, counts: Tensor, rows: Ragged) -> Tensor:
    """Σ scale·sign over the senders of words (M, W), divided by `counts` (B,): (d,)."""
    return _flat(
        [
            reference.mean_signs(
                g.words(words),
                None if keep is None else g.words(keep),
                g.n,
                scales[..., g.start : g.stop],
                counts[g.start : g.stop],
            )
            for g in _each(rows, words.device)
        ]
    )


def ragged_whole_units(words: Tensor, rows: Ragged) -> Tensor:
    """Words (..., U) that mark the units of which all bits are set."""
    return _flat([units_reference.whole_units(g.words(words), g.n, g.units) for g in _each(rows, words.device)])


def ragged_outside_units(flags: Tensor, rows: Ragged) -> Tensor:
    """Words (..., W) with the bits set outside the marked units."""
    marked = zip(_each(rows, flags.device), _rectangles(flags, rows.unit_words, rows), strict=True)
    return _flat([units_reference.outside_units(own, g.n, g.units) for g, own in marked])


def ragged_narrow(x: Tensor, draw: Draw, rows: Ragged) -> Tensor:
    """`rounding_reference.narrow` of all rows (d,)."""
    pairs = zip(_rectangles(vector_of(x), rows.offsets, rows), _each(rows, x.device), strict=True)
    return _flat([rounding_reference.narrow(own, g.of(draw)) for own, g in pairs])


def ragged_copy(source: Tensor, begins: Numbers, target: Tensor, places: Numbers, sizes: Numbers) -> None:
    """Copies `sizes` bytes from `begins` in the memory of `source` to `places` in that of `target`; all contiguous."""
    come, go = (t.view(-1).view(torch.uint8) for t in (source, target))
    for begin, place, size in zip(begins.tolist(), places.tolist(), sizes.tolist(), strict=True):
        go[place : place + size] = come[begin : begin + size]


class _Rectangle:
    """The rows from `start` to `stop`, which are equal, as a group."""

    def __init__(self, rows: Ragged, start: int, stop: int, units: Units) -> None:
        self.rows, self.start, self.stop, self.units = rows, start, stop, units
        self.n = int(rows.lengths[start])
        self.width = reference.num_words(self.n)

    def of(self, given: Any) -> Any:
        """The own share of what is said for all rows."""
        if isinstance(given, Draw):
            return Draw(given.key, self.of(given.block), self.of(given.sender))
        if isinstance(given, Tensor) and given.dim() and given.shape[-1] == self.rows.num_rows:
            return given[..., self.start : self.stop]
        return given

    def words(self, flat: Tensor) -> Tensor:
        """Its words (..., B, W)."""
        return self._cut(flat, self.rows.words)

    def coordinates(self, flat: Tensor) -> Tensor:
        """Its coordinates (..., B, n)."""
        return self._cut(flat, self.rows.offsets)

    def _cut(self, flat: Tensor, starts: Numbers) -> Tensor:
        return rectangle(flat, starts, self.start, self.stop)


def rectangle(flat: Tensor, starts: Numbers, start: int, stop: int) -> Tensor:
    """Rows of equal length of a flat vector (..., d) as a view (..., B, n)."""
    begin, end = int(starts[start]), int(starts[stop])
    rows: Tensor = flat[..., begin:end].unflatten(-1, (stop - start, (end - begin) // (stop - start)))
    return rows


def _each(rows: Ragged, device: torch.device) -> Iterator[_Rectangle]:
    pairs = zip(pairwise(rows.groups.tolist()), rows.units_on(device), strict=True)
    return (_Rectangle(rows, a, b, units) for (a, b), units in pairs)


def _rectangles(flat: Tensor, starts: Numbers, rows: Ragged) -> Iterator[Tensor]:
    return (rectangle(flat, starts, int(a), int(b)) for a, b in pairwise(rows.groups))


def _flat(parts: Any) -> Tensor:
    return torch.cat([part.flatten(-2) for part in parts], -1)
