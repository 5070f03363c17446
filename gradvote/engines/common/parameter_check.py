"""Parameters that drift apart unseen: a bit that turned in one memory, a weight that a script changed on one rank only.

What a vote steers is cut into parts, one of which is digested in each step, so that all have been within `every` steps.
A digest is BLAKE2b (16 bytes, no key) of the values' bytes: any turned bit changes it, and no two of them cancel out.
It is a check against faults, not against liars: who lies about its parameters is outvoted like any other liar. Buffers
(BatchNorm's statistics) and frozen parameters are not looked at, as each worker may have its own. A momentum or a
server's memory that was altered shows in the parameters as soon as it moves them otherwise.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gradvote.engines.common.digests import SHORT_DIGEST_BYTES
from gradvote.staging import to_host

EVERY = 500
"""Steps within which all parameters have been looked at: at 25M parameters 0.3 ms in each."""
LEAST = 1024
"""Coordinates of a part at least: a digest has a price, however little it is of."""
UNCHECKED = bytes(SHORT_DIGEST_BYTES)
"""The digest where nothing is looked at."""


class ParameterCheck:
    """Digests of parts of the parameters; with `every` None there is nothing to look at.

    Raises:
        ValueError: `every` is no number of steps.
    """

    def __init__(self, names: Sequence[str], params: Sequence[Tensor], every: int | None = EVERY) -> None:
        check_every(every)
        self._names, self._params, self.every = tuple(names), tuple(params), every
        self._size = sum(p.numel() for p in params)
        self.num_parts = max(1, min(every or 1, self._size // LEAST))

    def digest(self, step: int) -> bytes:
        """The digest of the part whose turn it is at a step; only that part is brought to the host."""
        if self.every is None:
            return UNCHECKED
        hasher = hashlib.blake2b(digest_size=SHORT_DIGEST_BYTES)
        for piece in to_host([_piece(self._params[i], low, high) for i, low, high in self._pieces(step)]):
            hasher.update(_raw(piece))
        return hasher.digest()

    def names(self, step: int) -> str:
        """The parameters that the part of a step has coordinates of, in words."""
        own = [self._names[i] for i, _, _ in self._pieces(step)]
        return repr(own[0]) if len(own) == 1 else f"{own[0]!r} to {own[-1]!r}"

    def _pieces(self, step: int) -> Iterator[tuple[int, int, int]]:
        """Parameter, first coordinate and end of each piece of a part."""
        part = step % self.num_parts
        low, high = (self._size * part // self.num_parts, self._size * (part + 1) // self.num_parts)
        for i, p in enumerate(self._params):
            if low < p.numel() and high > 0:
                yield i, max(low, 0), min(high, p.numel())
            low, high = low - p.numel(), high - p.numel()


def check_every(every: int | None) -> None:
    """Raise ValueError where this is no number of steps, and not None."""
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise ValueError(
            f"check_parameters_every is the number of steps within which all parameters are compared, at least 1, or "
            f"None for never; got {every!r}."
        )


def digests_of(params: Sequence[Tensor], most: int | None = None) -> list[int]:
    """The digest of each parameter, or of its first `most` coordinates, as a signed number of 64 bits.

    Of whole parameters, one at a time is on the host.
    """
    pieces = (_piece(p, 0, p.numel() if most is None else min(p.numel(), most)) for p in params)
    hosted = (to_host([piece])[0] for piece in pieces) if most is None else to_host([*pieces])
    raws = (hashlib.blake2b(_raw(piece), digest_size=8).digest() for piece in hosted)
    return [int.from_bytes(raw, "little", signed=True) for raw in raws]


def usual(said: Mapping[int, bytes]) -> bytes | None:
    """What more than half of them say; None where they are not of one mind so far."""
    value, times = Counter(said.values()).most_common(1)[0]
    return value if 2 * times > len(said) else None


def _piece(p: Tensor, low: int, high: int) -> Tensor:
    """Coordinates of a parameter in the order of `reshape(-1)`; in another memory format these rows are copied."""
    if p.is_contiguous():
        return p.detach().view(-1)[low:high]
    row = p.numel() // len(p)
    first = low // row
    return p.detach()[first : -(-high // row)].reshape(-1)[low - first * row : high - first * row]


def _raw(piece: Tensor) -> memoryview:
    return piece.contiguous().view(torch.uint8).numpy().data
