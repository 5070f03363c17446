"""Arithmetic on vectors of machine code, written like arithmetic on tensors: a formula runs on either.

The instructions are generic LLVM IR, so that each processor gets its own (AVX2, AVX-512, NEON); floating-point ones are
plain IEEE operations, one rounding each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir

BIT, INT8, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
FLOAT32, FLOAT64 = ir.FloatType(), ir.DoubleType()
WIDE = bool(binding.get_host_cpu_features().get("avx512f", False))
"""Whether there are 32 vector registers of 64 bytes: then twice as much is computed at a time."""

Builder = Any
Scalar = Any
Type = Any


class Vector:
    """Many integers or floating-point numbers of one type; operators take another vector or a Python number."""

    def __init__(self, builder: Builder, value: Scalar) -> None:
        self.builder, self.value = builder, value

    @property
    def count(self) -> int:
        """The number of lanes."""
        return int(self.value.type.count)

    @property
    def is_float(self) -> bool:
        """Whether the lanes are floating-point numbers."""
        return isinstance(self.value.type.element, ir.FloatType | ir.DoubleType)

    def __add__(self, other: Vector | float) -> Vector:
        return self._join(other, self.builder.fadd if self.is_float else self.builder.add)

    def __sub__(self, other: Vector | float) -> Vector:
        return self._join(other, self.builder.fsub if self.is_float else self.builder.sub)

    def __rsub__(self, other: float) -> Vector:
        return self.like(other) - self

    def __mul__(self, other: Vector | float) -> Vector:
        return self._join(other, self.builder.fmul if self.is_float else self.builder.mul)

    def __rmul__(self, other: float) -> Vector:
        return self * other

    def __truediv__(self, other: Vector) -> Vector:
        return self._join(other, self.builder.fdiv)

    def __and__(self, other: Vector | int) -> Vector:
        return self._join(other, self.builder.and_)

    def __or__(self, other: Vector | int) -> Vector:
        return self._join(other, self.builder.or_)

    def __xor__(self, other: Vector | int) -> Vector:
        return self._join(other, self.builder.xor)

    def __lshift__(self, other: int) -> Vector:
        return self._join(other, self.builder.shl)

    def __rshift__(self, other: int) -> Vector:
        """Copies of the sign come in from above, as in torch."""
        return self._join(other, self.builder.ashr)

    def shift_zeros(self, other: int) -> Vector:
        """Moves right; zeros come in from above."""
        return self._join(other, self.builder.lshr)

    def __lt__(self, other: Vector | float) -> Vector:
        return self._compare("<", other)

    def __le__(self, other: Vector | float) -> Vector:
        return self._compare("<=", other)

    def __ge__(self, other: Vector | float) -> Vector:
        return self._compare(">=", other)

    def __gt__(self, other: Vector | float) -> Vector:
        return self._compare(">", other)

    def equal(self, other: Vector | float) -> Vector:
        """Where both are equal."""
        return self._compare("==", other)

    def below(self, other: Vector | int) -> Vector:
        """Where this integer is less than the other, both read without a sign."""
        return self._join(other, lambda a, b: self.builder.icmp_unsigned("<", a, b))

    def where(self, chosen: Vector | float, other: Vector | float) -> Vector:
        """`chosen` where this condition holds, `other` elsewhere."""
        either = chosen if isinstance(chosen, Vector) else other
        assert isinstance(either, Vector)
        return Vector(
            self.builder, self.builder.select(self.value, either.like(chosen).value, either.like(other).value)
        )

    def negated(self) -> Vector:
        """Every bit turned over."""
        return Vector(self.builder, self.builder.not_(self.value))

    def flipped(self) -> Vector:
        """−x of floating-point numbers."""
        return Vector(self.builder, self.builder.fneg(self.value))

    def magnitude(self) -> Vector:
        """The bits of |x| as integers, which are in the same order; at and above those of inf x is not finite."""
        width = _width(self.value.type.element)
        return self.cast(ir.IntType(width)) & ((1 << (width - 1)) - 1)

    def fold(self, keep_left: Callable[[Vector, Vector], Vector], count: int = 16) -> Vector:
        """Halves joined, the left or the right item of each pair, down to `count` lanes: least and greatest values."""
        folded = self
        while folded.count > count:
            half = folded.count // 2
            left, right = folded.pick(folded, range(half)), folded.pick(folded, range(half, 2 * half))
            folded = keep_left(left, right).where(left, right)
        return folded

    def like(self, number: Vector | float) -> Vector:
        """A Python number in every lane."""
        if isinstance(number, Vector):
            return number
        kind = self.value.type
        return Vector(self.builder, ir.Constant(kind, [float(number) if self.is_float else int(number)] * kind.count))

    def cast(self, element: Type) -> Vector:
        """The same bits as lanes of another type."""
        bits = self.count * _width(self.value.type.element)
        return Vector(self.builder, self.builder.bitcast(self.value, ir.VectorType(element, bits // _width(element))))

    def to(self, element: Type, instruction: str) -> Vector:
        """Each lane converted by an instruction: "zext", "sext", "trunc", "sitofp", "fpext"."""
        convert = getattr(self.builder, instruction)
        return Vector(self.builder, convert(self.value, ir.VectorType(element, self.count)))

    def bitmap(self) -> Scalar:
        """The lanes of a condition as the bits of one integer, lane 0 lowest."""
        return self.builder.bitcast(self.value, ir.IntType(self.count))

    def pick(self, other: Vector, order: Sequence[int]) -> Vector:
        """Lanes by number, those of `other` counted after this vector's own."""
        chosen = ir.Constant(ir.VectorType(INT32, len(order)), list(order))
        return Vector(self.builder, self.builder.shuffle_vector(self.value, other.value, chosen))

    def _join(self, other: Vector | float, instruction: Callable[..., Scalar]) -> Vector:
        return Vector(self.builder, instruction(self.value, self.like(other).value))

    def _compare(self, relation: str, other: Vector | float) -> Vector:
        compare = self.builder.fcmp_ordered if self.is_float else self.builder.icmp_signed
        return self._join(other, lambda a, b: compare(relation, a, b))


def splat(builder: Builder, scalar: Scalar, count: int) -> Vector:
    """A scalar in every lane."""
    kind = ir.VectorType(scalar.type, count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, INT32(0))
    return Vector(builder, first).pick(Vector(builder, first), [0] * count)


def constant(builder: Builder, element: Type, numbers: Sequence[int]) -> Vector:
    """Known numbers."""
    return Vector(builder, ir.Constant(ir.VectorType(element, len(numbers)), list(numbers)))


def load(builder: Builder, address: Scalar, element: Type, count: int) -> Vector:
    """Lanes from an integer address, which need not be aligned to more than one item."""
    kind = ir.VectorType(element, count)
    return Vector(builder, builder.load(builder.inttoptr(address, kind.as_pointer()), align=_width(element) // 8))


def store(vector: Vector, address: Scalar) -> None:
    """Writes lanes to an integer address."""
    pointer = vector.builder.inttoptr(address, vector.value.type.as_pointer())
    vector.builder.store(vector.value, pointer, align=_width(vector.value.type.element) // 8)


def store_word(builder: Builder, word: Scalar, address: Scalar) -> None:
    """Writes one integer to an integer address."""
    builder.store(word, builder.inttoptr(address, word.type.as_pointer()), align=1)


def _width(element: Type) -> int:
    if isinstance(element, ir.IntType):
        return int(element.width)
    return 64 if isinstance(element, ir.DoubleType) else 32
