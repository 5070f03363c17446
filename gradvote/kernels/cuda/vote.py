"""Majority vote over M packed ballots: `reference.majority` on a CUDA device.

64 coordinates of a ballot are added to 64 counters at once: bit k of all counters is a word, a plane. A ballot that
speaks for + adds 2 to the counter of its coordinate, one that speaks for − nothing, one that is silent 1. So + has won
where the counter exceeds the number of ballots, and where it equals that there is a tie.
"""

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda.columns import columns_of, flags_of, strides_of, unit_of
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import rows_of
from gradvote.kernels.cuda.tiles import appended, row_start
from gradvote.kernels.cuda.traced import Symbol, function

TILES = {1: 512, 3: 256, 7: 256, 15: 256}
"""Words of a row that one program takes, by the number of ballots that it loads before it counts them."""
PLANES = 13
"""Bits of a counter of any number of ballots."""
LIMIT = (1 << PLANES - 1) - 1
"""Ballots that such a counter counts, with the silent ones that make whole chunks: this is a multiple of 15."""


def majority(words: Tensor, counted: Tensor | None, valid: Tensor, ties: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.majority`."""
    number = len(words)
    if number > LIMIT:
        return reference.majority(words, counted, valid, ties)
    ballots, flags = columns_of(words), flags_of(valid, words.shape[:-1])
    marks = ballots if counted is None else columns_of(counted.expand_as(words))
    first, tie = ballots.first, rows_of(ties, ballots.first.lead)
    unit = unit_of(ballots, marks, tie)
    won, tied = (torch.empty(words.shape[1:], dtype=torch.int64, device=words.device) for _ in range(2))
    rows = min((limit for limit in TILES if number <= limit), default=max(TILES))
    launch(
        _vote, first.number * portions(first.n, TILES[rows]), words,
        first.x, marks.first.x, flags.x, tie.x, won, tied, number, first.n, first.inner,
        ballots.step // unit, *strides_of(first, unit), marks.step // unit, *strides_of(marks.first, unit),
        *flags[1:], *strides_of(tie, unit), UNIT=unit, TILE=TILES[rows], MASKED=counted is not None,
        ROWS=rows, COUNT=_COUNTS[rows], PLANES=(2 * rows).bit_length(), TOTAL=PLANES if number > rows else 0,
    )  # fmt: skip
    return won, tied


def _full(a: Symbol, b: Symbol, c: Symbol) -> tuple[Symbol, Symbol]:
    """The sum of three bits, and its carry."""
    return a ^ b ^ c, (a & b) ^ (a & c) ^ (b & c)


def _count(rows: int, ballots: Symbol, spoken: Symbol) -> list[Symbol]:
    """The planes of what `rows` ballots add, of those words of which are `spoken`: full adders, least bits first."""
    item = ballots.trace.write
    pairs = [(item(f"ballots[{i}]"), item(f"spoken[{i}]")) for i in range(rows)]
    inputs = [(ballot & marked, (ballot & marked) ^ marked ^ -1) for ballot, marked in pairs]
    total, carries = inputs[0][0] ^ inputs[0][1], [inputs[0][0] & inputs[0][1]]
    for plus, silent in inputs[1:]:
        total, carry = _full(total, plus, silent)
        carries.append(carry)
    planes = [total]
    while carries:
        total, *rest = carries
        carries = []
        for one, two in zip(rest[::2], rest[1::2], strict=True):
            total, carry = _full(total, one, two)
            carries.append(carry)
        planes.append(total)
    return planes


_COUNTS = {rows: function(f"count_{rows}", ("ballots", "spoken"), partial(_count, rows)) for rows in TILES}


@triton.jit
def _sum(counter, more, TOTAL: tl.constexpr, PLANES: tl.constexpr):
    """A counter of TOTAL planes and one of PLANES."""
    result = (counter[0] ^ more[0],)
    carry = counter[0] & more[0]
    for k in tl.static_range(1, TOTAL):
        if k < PLANES:
            result = appended(result, counter[k] ^ more[k] ^ carry)
            carry = (counter[k] & more[k]) | (counter[k] & carry) | (more[k] & carry)
        else:
            result = appended(result, counter[k] ^ carry)
            carry = counter[k] & carry
    return result


@triton.jit
def _ballot(x, marks, flags, i, step, mark_step, flag_step, number, inside, MASKED: tl.constexpr):
    """Ballot i and where it speaks; one beyond the last is silent."""
    here = inside & (i < number)
    ballot = tl.load(x + i.to(tl.int64) * step, mask=here, other=0)
    spoken = -(tl.load(flags + i.to(tl.int64) * flag_step, mask=i < number, other=0) != 0).to(tl.int64)
    if MASKED:
        spoken &= tl.load(marks + i.to(tl.int64) * mark_step, mask=here, other=0)
    return ballot, spoken


@triton.jit
def _chunk(
    x, marks, flags, first, step, mark_step, flag_step, number, inside,
    MASKED: tl.constexpr, ROWS: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """What ballots `first` to first + ROWS − 1 add."""
    ballot, spoken = _ballot(x, marks, flags, first, step, mark_step, flag_step, number, inside, MASKED)
    ballots, speaking = (ballot,), (ballot * 0 + spoken,)
    for k in tl.static_range(1, ROWS):
        ballot, spoken = _ballot(x, marks, flags, first + k, step, mark_step, flag_step, number, inside, MASKED)
        ballots = appended(ballots, ballot)
        speaking = appended(speaking, ballot * 0 + spoken)
    return COUNT(ballots, speaking)


@triton.jit(
    do_not_specialize=(
        "number", "width", "inner", "step", "outer_stride", "inner_stride", "mark_step", "mark_outer", "mark_inner",
        "flag_step", "flag_outer", "flag_inner", "tie_outer", "tie_inner",
    )
)  # fmt: skip
def _vote(
    x, marks, flags, ties, won, tied, number, width, inner, step, outer_stride, inner_stride,
    mark_step, mark_outer, mark_inner, flag_step, flag_outer, flag_inner, tie_outer, tie_inner,
    UNIT: tl.constexpr, TILE: tl.constexpr, MASKED: tl.constexpr,
    ROWS: tl.constexpr, COUNT: tl.constexpr, PLANES: tl.constexpr, TOTAL: tl.constexpr,
):  # fmt: skip
    width = width // UNIT * UNIT
    tiles = tl.cdiv(width, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    j = tile * TILE + tl.arange(0, TILE)
    inside = j < width
    x = row_start(x, row, inner, outer_stride, inner_stride, UNIT) + j
    marks = row_start(marks, row, inner, mark_outer, mark_inner, UNIT) + j
    flags = row_start(flags, row, inner, flag_outer, flag_inner, 1)
    step, mark_step, first = step.to(tl.int64) * UNIT, mark_step.to(tl.int64) * UNIT, number * 0
    if TOTAL:
        counter, threshold = (tl.zeros((TILE,), tl.int64),), first
        for _ in tl.static_range(1, TOTAL):
            counter = appended(counter, tl.zeros((TILE,), tl.int64))
        while threshold < number:
            more = _chunk(x, marks, flags, threshold, step, mark_step, flag_step, number, inside, MASKED, ROWS, COUNT)
            counter = _sum(counter, more, TOTAL, PLANES)
            threshold += ROWS
    else:
        counter = _chunk(x, marks, flags, first, step, mark_step, flag_step, number, inside, MASKED, ROWS, COUNT)
        threshold = first + ROWS
    beyond, equal = tl.zeros((TILE,), tl.int64), tl.full((TILE,), -1, tl.int64)
    for k in tl.static_range(TOTAL or PLANES):
        plane = counter[(TOTAL or PLANES) - 1 - k]
        bit = -((threshold >> ((TOTAL or PLANES) - 1 - k)) & 1).to(tl.int64)
        beyond |= equal & plane & ~bit
        equal &= ~(plane ^ bit)
    tie = tl.load(row_start(ties, row, inner, tie_outer, tie_inner, UNIT) + j, mask=inside, other=0)
    place = row.to(tl.int64) * width + j
    tl.store(won + place, beyond | (equal & tie), mask=inside)
    tl.store(tied + place, equal, mask=inside)
