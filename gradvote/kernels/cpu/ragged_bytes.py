"""Stretches of bytes copied from many places to many, in one call."""

import numpy as np
from numba.core import cgutils
from torch import Tensor

from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import INT8, INT64, Builder, Scalar
from gradvote.kernels.cpu.loops import each, value_at
from gradvote.ragged import Numbers


def ragged_copy(source: Tensor, begins: Numbers, target: Tensor, places: Numbers, sizes: Numbers) -> None:
    """`ragged_reference.ragged_copy`."""
    _copy(source.data_ptr(), begins, target.data_ptr(), places, np.ascontiguousarray(sizes), len(sizes))


@program
def _copy(
    builder: Builder, source: Scalar, begins: Scalar, target: Scalar, places: Scalar, sizes: Scalar, count: Scalar
) -> None:
    with each(builder, INT64(0), count) as index:
        come, go = (
            builder.inttoptr(builder.add(base, value_at(builder, table, index)), INT8.as_pointer())
            for base, table in ((source, begins), (target, places))
        )
        cgutils.raw_memcpy(builder, go, come, value_at(builder, sizes, index), 1)  # type: ignore[no-untyped-call]
