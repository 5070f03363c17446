"""Signs of which some are not spoken: to numbers, and to the mean of many ballots, each in one pass."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import Place, Scales, per_row, result_rows, rows_of
from gradvote.kernels.cpu.jit import instruction, kernel
from gradvote.kernels.cpu.lanes import BIT, FLOAT32, INT64, Builder, Scalar, Vector, load, splat, store
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.streaming import settle_writes, way_of, write
from gradvote.kernels.cpu.threads import split

WORD = 64
BYTES = 4 * WORD
GRAIN = 1 << 10
"""Words that are worth a thread."""
ALL, KEPT = ((None,) * kind for kind in range(1, 3))
"""Whether ballots speak on all coordinates, as values whose types tell the compiler."""
ONE, MANY = ((None,) * kind for kind in range(1, 3))
"""Whether there is one ballot, or a mean of several."""

Kind = tuple[None, ...]
Numbers = NDArray[np.float32]


def unpack_kept(words: Tensor, keep: Tensor, n: int, scale: float | Tensor, out: Tensor | None = None) -> Tensor:
    """`reference.unpack_kept`."""
    shape, scale = words.shape[:-1], torch.as_tensor(scale, dtype=torch.float32)
    if out is None:
        out = spare.empty((*shape, n))
    elif out.dtype != torch.float32 or out.shape != (*shape, n) or not out.is_contiguous():
        return reference.unpack_kept(words, keep, n, scale, out)
    counts = torch.ones(shape)
    _write_all((KEPT, ONE), words[None], keep[None], scale.expand(shape)[None], counts, out)
    return out


def mean_signs(words: Tensor, keep: Tensor | None, n: int, scales: Tensor, counts: Tensor) -> Tensor:
    """`reference.mean_signs`."""
    out = spare.empty((*words.shape[1:-1], n))
    kind = (ALL if keep is None else KEPT), MANY
    _write_all(kind, words, words if keep is None else keep, scales.float(), counts.float(), out)
    return out


def _write_all(
    kind: tuple[Kind, Kind], words: Tensor, keep: Tensor, scales: Tensor, counts: Tensor, out: Tensor
) -> None:
    senders = words.shape[:-1]
    sources, kept, rows = rows_of(words, 1, senders), rows_of(keep, 1, senders), result_rows(out, WORD)
    numbers = per_row(scales, senders), per_row(counts, senders[1:])
    job = (*kind, way_of([rows]), sources.place, kept.place, len(words), *numbers, rows.place, rows.groups)
    split(lambda start, stop: _write_rows(*job, start, stop), rows.total, max(GRAIN // max(len(words), 1), 1))
    rows.finish()


@instruction
def _clear(builder: Builder, total: Scalar) -> None:
    store(splat(builder, FLOAT32(0.0), WORD), total)


@instruction
def _add(builder: Builder, kept: Any, many: Any, bits: Scalar, keep: Scalar, scale: Scalar, total: Scalar) -> None:
    """Adds what a word of a ballot stands for to 64 numbers, or puts it in their place."""
    plus = splat(builder, scale, WORD)
    term = load(builder, bits, INT64, 1).cast(BIT).where(plus, plus.flipped())
    if len(kept) == len(KEPT):
        term = load(builder, keep, INT64, 1).cast(BIT).where(term, 0.0)
    store(load(builder, total, FLOAT32, WORD) + term if len(many) == len(MANY) else term, total)


@instruction
def _finish(builder: Builder, many: Any, way: Any, total: Scalar, count: Scalar, out: Scalar) -> None:
    """Writes 64 numbers, divided by `count` where there were many ballots."""
    numbers = load(builder, total, FLOAT32, WORD)
    if len(many) == len(MANY):
        numbers = Vector(builder, builder.fdiv(numbers.value, splat(builder, count, WORD).value))
    write(numbers, out, way)


@kernel
def _write_rows(
    kept: Any,
    many: Any,
    way: Any,
    words: Place,
    keep: Place,
    num_senders: int,
    scales: Scales,
    counts: Numbers,
    result: Place,
    groups: int,
    start: int,
    stop: int,
) -> None:
    bits, bits_stride, _, _ = words
    masks, masks_stride, _, _ = keep
    out, stride, rest, whole = result
    buffer = np.empty(WORD, np.float32)
    total = buffer.ctypes.data
    for unit in range(start, stop):
        row, group = unit // groups, unit % groups
        _clear(total)
        for sender in range(num_senders):
            place = sender * len(counts) + row
            at = bits + place * bits_stride + 8 * group
            _add(kept, many, at, masks + place * masks_stride + 8 * group, scales[place], total)
        target = out + row * stride + group * BYTES if group < whole else rest + row * BYTES
        _finish(many, way, total, counts[row], target)
    settle_writes()
