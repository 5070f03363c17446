"""Signs of which some are not spoken: to numbers, and to the mean of many ballots, each in one pass."""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import Scales, per_row, result_rows, rows_of
from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import BIT, FLOAT32, INT64, Builder, Scalar, Vector, load, splat, store
from gradvote.kernels.cpu.loops import ZERO, each, each_group, group_at, group_to, stack, value_at
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split

WORD = 64
GRAIN = 1 << 10
"""Words that are worth a thread."""
ALL, KEPT = ((None,) * kind for kind in range(1, 3))
"""Whether ballots speak on all coordinates, as values whose types tell the compiler."""
ONE, MANY = ((None,) * kind for kind in range(1, 3))
"""Whether there is one ballot, or a mean of several."""

NOBODY = np.ones(1, np.float32)
"""The divisor where there is one ballot."""

Kind = tuple[None, ...]


def unpack_kept(words: Tensor, keep: Tensor, n: int, scale: float | Tensor, out: Tensor | None = None) -> Tensor:
    """`reference.unpack_kept`."""
    shape, scale = words.shape[:-1], torch.as_tensor(scale, dtype=torch.float32, device="cpu")
    if out is None:
        out = spare.empty((*shape, n))
    elif out.dtype != torch.float32 or out.shape != (*shape, n) or not out.is_contiguous():
        return reference.unpack_kept(words, keep, n, scale, out)
    _write_all((KEPT, ONE), words, keep, shape, (per_row(scale, shape), NOBODY), out)
    return out


def mean_signs(words: Tensor, keep: Tensor | None, n: int, scales: Tensor, counts: Tensor) -> Tensor:
    """`reference.mean_signs`."""
    out = spare.empty((*words.shape[1:-1], n))
    kind, shape = ((ALL if keep is None else KEPT), MANY), words.shape[:-1]
    numbers = per_row(scales.float(), shape), per_row(counts.float(), shape[1:])
    _write_all(kind, words, words if keep is None else keep, shape, numbers, out)
    return out


def _write_all(
    kind: tuple[Kind, Kind],
    words: Tensor,
    keep: Tensor,
    shape: torch.Size,
    numbers: tuple[Scales, Scales],
    out: Tensor,
) -> None:
    """`numbers`: the scales of all rows, and the divisors of those of the result."""
    sources, kept, rows = rows_of(words, 1, shape), rows_of(keep, 1, shape), result_rows(out, WORD)
    senders = shape[0] if kind[1] == MANY else 1
    job = (*kind, sources.place, kept.place, senders, *numbers, rows.body.shape[0], rows.place)
    grain = max(GRAIN // max(senders, 1), 1)
    split(lambda start, stop: _write_rows(*job, rows.groups, start, stop), rows.total, grain)


@program
def _write_rows(
    builder: Builder,
    kept: Any,
    many: Any,
    words: Any,
    keep: Any,
    num_senders: Scalar,
    scales: Scalar,
    counts: Scalar,
    num_rows: Scalar,
    result: Any,
    groups: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    """Writes what the words of all senders stand for, divided by `count` where there can be many."""
    total = stack(builder, ir.VectorType(FLOAT32, WORD))
    with each_group(builder, start, stop, groups) as (row, group):

        def said(sender: Scalar) -> Vector:
            place = builder.add(builder.mul(sender, num_rows), row)
            plus = splat(builder, value_at(builder, scales, place, FLOAT32), WORD)
            bits = load(builder, group_at(builder, words, place, group, 1, 8), INT64, 1).cast(BIT)
            term = bits.where(plus, plus.flipped())
            if len(kept) == len(ALL):
                return term
            return load(builder, group_at(builder, keep, place, group, 1, 8), INT64, 1).cast(BIT).where(term, 0.0)

        if len(many) == len(ONE):
            mean = said(ZERO)
        else:
            count = splat(builder, value_at(builder, counts, row, FLOAT32), WORD)
            builder.store(count.like(0.0).value, total)
            with each(builder, ZERO, num_senders) as sender:
                builder.store((Vector(builder, builder.load(total)) + said(sender)).value, total)
            mean = Vector(builder, builder.load(total)) / count
        with group_to(builder, result, row, group, WORD, 4) as target:
            store(mean, target)
