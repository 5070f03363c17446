"""Philox4x32-10 in emitted code: the numbers of `reference.random_words`, tiles of 64 at a time.

A counter takes a lane of 64 bits, whose upper half may hold anything: the multiplication looks at the lower half only.
The order of words within a tile is chosen so that no lane has to move (see `gradvote.rng`).
"""

from gradvote.kernels.cpu.lanes import INT32, INT64, WIDE, Builder, Scalar, Vector, constant, splat

TILE = 64
TILES = 2 if WIDE else 1
"""Tiles drawn at a time: enough independent work to fill the processor's pipeline."""
_FACTORS = (0xD2511F53, 0xCD9E8D57)
_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def signed(key: int) -> int:
    """A 64-bit key as compiled kernels take it."""
    return key - (key >> 63 << 64)


def tiles(builder: Builder, key: Scalar, block: Scalar, sender: Scalar, first: Scalar, count: int) -> list[Vector]:
    """The words of `count` tiles from tile `first` on, each as 64 lanes of 32 bits."""
    counters = 16 * count
    start = splat(builder, builder.mul(first, INT64(16)), counters)
    low, high = _rounds(start + constant(builder, INT64, range(counters)), key, block, sender)
    parts = (range(place, place + 32) for place in range(0, 2 * counters, 32))
    return [low.pick(high, [*part, *(2 * counters + i for i in part)]) for part in parts]


def _rounds(counter: Vector, key: Scalar, block: Scalar, sender: Scalar) -> tuple[Vector, Vector]:
    """Ten rounds: outputs 0 and 1 of each counter in turn, and outputs 2 and 3."""
    builder, count = counter.builder, counter.count
    c0, c1, c2, c3 = counter, splat(builder, block, count), splat(builder, sender, count), counter.like(0)
    keys = [builder.and_(key, INT64(_LOW)), builder.lshr(key, INT64(32))]
    for _ in range(10):
        p0, p1 = (c0 & _LOW) * _FACTORS[0], (c2 & _LOW) * _FACTORS[1]
        k0, k1 = (splat(builder, k, count) for k in keys)
        c0, c1, c2, c3 = p1.shift_zeros(32) ^ c1 ^ k0, p1, p0.shift_zeros(32) ^ c3 ^ k1, p0
        keys = [builder.and_(builder.add(k, INT64(s)), INT64(_LOW)) for k, s in zip(keys, _STEPS, strict=True)]
    return _pairs(c0, c1), _pairs(c2, c3)


def _pairs(low: Vector, high: Vector) -> Vector:
    """The lower halves of two vectors of 64-bit lanes in turn."""
    order = [place for lane in range(0, 2 * low.count, 2) for place in (lane, 2 * low.count + lane)]
    return low.cast(INT32).pick(high.cast(INT32), order)


def fair_word(builder: Builder, key: Scalar, block: Scalar, sender: Scalar, index: Scalar) -> Scalar:
    """Word `index` of `reference.random_bits`, by itself."""
    tile, place = builder.lshr(index, INT64(5)), builder.and_(index, INT64(31))
    counter = builder.add(builder.mul(tile, INT64(16)), builder.and_(place, INT64(15)))
    words = [builder.bitcast(w.value, INT64) for w in _rounds(splat(builder, counter, 1), key, block, sender)]
    return builder.select(builder.icmp_unsigned("<", place, INT64(16)), *words)
