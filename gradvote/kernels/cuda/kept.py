"""Signs of which some are not spoken: to numbers, and to the mean of many ballots, each in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda.bits import OVERWRITE, TILE, in_rows, signed, topmost, unpack
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import lead_of, rows_of, values_of, words_of
from gradvote.kernels.cuda.tiles import drawn, row_start, value_start, whole

FEW = 8
"""Ballots up to which their number is compiled in."""
_VECTOR = 4
_SCALARS = (
    "senders", "rows", "n", "inner", "outer_stride", "inner_stride", "keep_outer", "keep_inner",
    "scale_outer", "scale_inner", "count_outer", "count_inner",
)  # fmt: skip


def unpack_kept(words: Tensor, keep: Tensor, n: int, scale: float | Tensor, out: Tensor | None = None) -> Tensor:
    """`reference.unpack_kept`."""
    if out is None:
        lead = lead_of(words.shape[:-1], keep.shape[:-1], scale)
        out = torch.empty((*lead, n), device=words.device)
    elif not in_rows(out, n):
        return reference.unpack_kept(words, keep, n, scale, out)
    unpack(words, keep, scale, out, OVERWRITE)
    return out


def mean_signs(words: Tensor, keep: Tensor | None, n: int, scales: Tensor, counts: Tensor) -> Tensor:
    """`reference.mean_signs`."""
    lead = words.shape[:-1]
    out = torch.empty((*lead[1:], n), device=words.device)
    rows, source = rows_of(out), words_of(words)
    kept = source if keep is None else words_of(keep, lead)
    launch(
        _mean, rows.number * portions(n, TILE), out,
        source.x, kept.x, out, lead[0], rows.number, n, *source.place, *kept.place[1:],
        *values_of(scales, lead), *values_of(counts, lead[1:]),
        FEW=lead[0] if lead[0] <= FEW else 0, KEPT=keep is not None,
        UNIT=rows.unit, UNITS=source.unit, KEEP_UNIT=kept.unit, TILE=TILE, VECTOR=_VECTOR,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=_SCALARS)
def _mean(
    words, keep, out, senders, rows, n, inner, outer_stride, inner_stride, keep_outer, keep_inner,
    scales, scale_outer, scale_inner, counts, count_outer, count_inner,
    FEW: tl.constexpr, KEPT: tl.constexpr, UNIT: tl.constexpr, UNITS: tl.constexpr, KEEP_UNIT: tl.constexpr,
    TILE: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    n = whole(n, UNIT)
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    mean_tile(
        row_start(words, row, inner, outer_stride, inner_stride, UNITS),
        row_start(keep, row, inner, keep_outer, keep_inner, KEEP_UNIT),
        value_start(scales, row, inner, scale_outer, scale_inner),
        _step(rows, inner, outer_stride, inner_stride) * UNITS, _step(rows, inner, keep_outer, keep_inner) * KEEP_UNIT,
        _step(rows, inner, scale_outer, scale_inner), senders, drawn(counts, row, inner, count_outer, count_inner),
        out + row.to(tl.int64) * (n // UNIT) * UNIT, n, tile, FEW, KEPT, TILE, VECTOR,
    )  # fmt: skip


@triton.jit
def _step(rows, inner, outer_stride, inner_stride):
    """From a row of a sender to that of the next, who is `rows` rows further; a sender's only row may be inner."""
    return tl.where(rows < inner, inner_stride, (rows // inner).to(tl.int64) * outer_stride)


@triton.jit
def mean_tile(
    words, keep, scales, step, keep_step, scale_step, senders, count, out, n, tile,
    FEW: tl.constexpr, KEPT: tl.constexpr, TILE: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """A tile of the mean over senders of the rows at `words`, each a step behind the last, to `out` (n,)."""
    first = tile * TILE + tl.arange(0, TILE // VECTOR) * VECTOR
    j = first[:, None] + tl.arange(0, VECTOR)[None, :]
    total = tl.zeros((TILE // VECTOR, VECTOR), tl.float32)
    if FEW > 0:
        for _ in tl.static_range(FEW):  # where there is no loop, numbers stay in the threads that store them
            total += _term(words, keep, scales, first, n, KEPT, VECTOR)
            words, keep, scales = words + step, keep + keep_step, scales + scale_step
    else:
        sender = senders * 0
        while sender < senders:  # Triton's interpreter has no `range` of a number that is no constant
            total += _term(words, keep, scales, first, n, KEPT, VECTOR)
            words, keep, scales = words + step, keep + keep_step, scales + scale_step
            sender += 1
    mean = tl.div_rn(total, tl.zeros_like(total) + count.to(tl.float32))
    tl.store(out + j, mean, mask=j < n)


@triton.jit
def _term(words, keep, scales, first, n, KEPT: tl.constexpr, VECTOR: tl.constexpr):
    """What a ballot adds: (TILE / VECTOR, VECTOR)."""
    own = tl.load(words + first // 32, mask=first < n)
    term = signed(topmost(own, first, VECTOR), tl.load(scales).to(tl.float32))
    if KEPT:
        kept = tl.load(keep + first // 32, mask=first < n)
        term = tl.where(topmost(kept, first, VECTOR) < 0, term, 0.0)
    return term
