"""Inputs that are nearly sound: a few bytes are changed, cut, doubled, or are numbers where lengths may stand."""

import random
import struct
from collections.abc import Iterator, Sequence

NUMBERS = (0, 1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    b"[",
    b"{",
    b"]",
    b"}",
    b"null",
    b"1e999",
    b"-1",
    b"NaN",
    b'""',
    b"[" * 3000,
    b"9" * 5000,
    b"\xff\xfe",
    b"\x00",
)


def mutated(seeds: Sequence[bytes], num: int, seed: int = 0) -> Iterator[bytes]:
    """So many inputs, the same ones each time."""
    draw = random.Random(seed)
    for _ in range(num):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 3)):
            _change(data, draw)
        yield bytes(data)


def _change(data: bytearray, draw: random.Random) -> None:
    at, kind = draw.randint(0, len(data)), draw.randrange(6)
    if kind == 0 and data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        width = draw.choice("BHIQ")
        raw = struct.pack(f"<{width}", draw.choice(NUMBERS) % 256 ** struct.calcsize(width))
        data[at : at + len(raw)] = raw
    elif kind == 3:
        data[at:at] = draw.choice(WORDS)
    elif kind == 4:
        data[at:at] = data[at : at + draw.randint(1, 64)]
    else:
        del data[at : at + draw.randint(1, 16)]
