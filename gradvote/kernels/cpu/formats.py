"""Formats of floating-point numbers: how a group of coordinates is read."""

from typing import Any

from gradvote.kernels.cpu.lanes import FLOAT32, FLOAT64, INT16, INT32, Builder, Scalar, Vector, load

_HALF_EXPONENT = 0x7C00 << 13


def read(builder: Builder, kind: Any, address: Scalar, count: int) -> Vector:
    """`count` coordinates in the format of `blocks.FORMATS`; bf16 and fp16 are widened to float32."""
    if len(kind) == 1:
        return load(builder, address, FLOAT32, count)
    if len(kind) == 2:
        return load(builder, address, FLOAT64, count)
    bits = load(builder, address, INT16, count).to(INT32, "zext")
    return (bits << 16).cast(FLOAT32) if len(kind) == 3 else _widen_half(bits)


def item_bytes(kind: Any) -> int:
    """Bytes of a coordinate; none where there is nothing to read."""
    return (0, 4, 8, 2, 2)[len(kind)]


def _widen_half(bits: Vector) -> Vector:
    """fp16 -> float32 by integers: not every processor has an instruction for it."""
    magnitude = (bits & 0x7FFF) << 13
    exponent = magnitude & _HALF_EXPONENT
    normal = magnitude + (112 << 23)
    tiny = ((normal + (1 << 23)).cast(FLOAT32) - 2.0**-14).cast(INT32)
    huge = normal + (112 << 23)
    widened = exponent.equal(0).where(tiny, exponent.equal(_HALF_EXPONENT).where(huge, normal))
    return (widened | ((bits & 0x8000) << 16)).cast(FLOAT32)
