"""Results that pass by the caches: their lines need not be read before they are written."""

from typing import Any

from gradvote.kernels.cpu.blocks import Rows
from gradvote.kernels.cpu.emit import LINE
from gradvote.kernels.cpu.lanes import INT32, Builder, Scalar, Vector, store

CACHED, STREAMED = ((None,) * kind for kind in range(1, 3))
"""How results are written, as values whose types tell the compiler."""
LARGE = 1 << 22
"""Bytes of a result from which it is streamed."""


def way_of(targets: list[Rows]) -> tuple[None, ...]:
    """STREAMED for large results of which every line is a line of the cache."""
    body = targets[0].body
    if body.nbytes < LARGE:
        return CACHED
    starts = [rows.place[0] for rows in targets]
    aligned = not any(number % LINE for number in (*starts, targets[0].place[1] if body.shape[0] > 1 else 0))
    return STREAMED if aligned else CACHED


def write(lanes: Vector, address: Scalar, way: Any) -> None:
    """Stores lanes at an address, in the way that the type of `way` tells."""
    builder, pointer = lanes.builder, lanes.builder.inttoptr(address, lanes.value.type.as_pointer())
    if len(way) == len(CACHED):
        store(lanes, address)
    else:
        written = builder.store(lanes.value, pointer, align=LINE)
        written.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))


def settle_writes(builder: Builder, way: Any) -> None:
    """What was streamed becomes visible to other threads."""
    if len(way) == len(STREAMED):
        builder.fence("seq_cst")
