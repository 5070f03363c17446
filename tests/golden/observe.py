"""What a worker sees of a round, by meaning, whatever the engine: an algorithm that keeps a book of its verbs.

Engines call `encode`, `combine` and `decode` of an algorithm, and `gradvote.wire.pieces` for every body that travels.
So nothing here knows an engine, nor has to follow when its files move.

`ballots`, `decisions`, `unsent`, `momentum` and `server's unsent` do not depend on who serves what. `ballot bodies` and
`decision bodies` are the bytes as they travel, whole or cut into shards.
"""

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from gradvote import wire
from gradvote.core import Algorithm, Context, Payload, Plane, State
from gradvote.rng import senders_of

Digests = dict[str, dict[int, dict[str, str]]]
"""For each kind of thing and each step: digests by who, or what, it is of."""
_here = threading.local()


class Book:
    """What one worker has seen, step by step; it is written only between `begin` and `end`."""

    def __init__(self) -> None:
        self.now: int | None = None
        self._cells: dict[str, dict[int, dict[tuple[int, int], bytes]]] = {}
        self._bodies: dict[str, dict[int, set[str]]] = {}
        self._parameters: dict[int, str] = {}

    @contextmanager
    def step(self, number: int, model: nn.Module) -> Iterator[None]:
        """Take down a step; the parameters as they are at its end."""
        self.now = number
        yield
        self.now = None
        self._parameters[number] = _sha(b"".join(raw_of(p) for p in model.parameters()))

    def write(self, what: str, sender: int, block: int, raw: bytes) -> None:
        """What is true at the end of a step is written last."""
        assert self.now is not None
        self._cells.setdefault(what, {}).setdefault(self.now, {})[sender, block] = raw

    def body(self, what: str, body: Tensor) -> None:
        """A body (bytes,), or one of each sender (M, bytes)."""
        assert self.now is not None
        bodies = {_sha(raw_of(row)) for row in body.reshape(-1, body.shape[-1])}
        self._bodies.setdefault(what, {}).setdefault(self.now, set()).update(bodies)

    def digests(self) -> Digests:
        """All of it: workers by number, the server's memory by block, bodies by themselves."""
        found: Digests = {"parameters": {step: {"": digest} for step, digest in self._parameters.items()}}
        for what, steps in self._cells.items():
            found[what] = {step: _by_owner(what, cells) for step, cells in steps.items()}
        for what, own in self._bodies.items():
            found[what] = {step: {body: body for body in bodies} for step, bodies in own.items()}
        return found


def _by_owner(what: str, cells: Mapping[tuple[int, int], bytes]) -> dict[str, str]:
    joined: dict[str, bytes] = {}
    for (sender, block), raw in sorted(cells.items()):
        owner = f"block {block}" if what == "server's unsent" else f"worker {sender}"
        joined[owner] = joined.get(owner, b"") + block.to_bytes(4, "little") + raw
    return {owner: _sha(raw) for owner, raw in joined.items()}


@dataclass(frozen=True, repr=False)
class Observed(Algorithm):
    """The algorithm itself, with its recipe, and its book."""

    book: Book = field(default_factory=Book, compare=False)

    def __repr__(self) -> str:
        return repr(Algorithm(self.up, self.aggregate, self.down, self.block_size))

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        self._begin("ballot bodies")
        n = x.shape[-1]
        payload, after = super().encode(x, state, ctx)
        if self.book.now is not None:
            self._payload("ballots", payload, self.up.planes(n, ctx), ctx)
        return payload, after

    def combine(self, ballots: Payload, state: State, ctx: Context, n: int) -> tuple[Payload, State]:
        self._begin("decision bodies")
        decision, after = super().combine(ballots, state, ctx, n)
        if self.book.now is not None and (kept := self.down.unsent(after)) is not None:
            self._rows("server's unsent", kept, ctx.as_server())
        return decision, after

    def decode(
        self, decision: Payload, state: State, ctx: Context, n: int, out: Tensor | None = None
    ) -> tuple[Tensor, State]:
        direction, after = super().decode(decision, state, ctx, n, out)
        if self.book.now is not None:
            self._payload("decisions", decision, self.down.planes(n, ctx.as_server()), ctx.as_server())
            if (kept := self.unsent(after)) is not None:
                self._rows("unsent", kept, ctx)
            for momentum in momenta(after):
                self._rows("momentum", momentum, ctx)
        return direction, after

    def _begin(self, what: str) -> None:
        _here.book, _here.what = (self.book if self.book.now is not None else None), what

    def _rows(self, what: str, x: Tensor, ctx: Context) -> None:
        blocks, senders = ctx.block.tolist(), senders_of(ctx).reshape(-1).tolist()
        for sender, own in zip(senders, x.reshape(-1, len(blocks), x.shape[-1]), strict=True):
            for block, row in zip(blocks, own, strict=True):
                self.book.write(what, sender, block, raw_of(row))

    def _payload(self, what: str, payload: Payload, planes: Sequence[Plane], ctx: Context) -> None:
        """Without the padding of rows of differing length, which says how many were encoded together."""
        blocks, senders = ctx.block.tolist(), senders_of(ctx).reshape(-1).tolist()
        widths = {p.name: p.row for p in planes}
        for i, sender in enumerate(senders):
            for b, block in enumerate(blocks):
                cell = raw_of(_at(payload.valid, i, b, 1))
                for name in sorted(payload.planes):
                    width, row = widths.get(name), _at(payload[name], i, b, 2)
                    size = int(_at(width, i, b, 1)) if isinstance(width, Tensor) else len(row)
                    cell += raw_of(row[:size])
                self.book.write(what, sender, block, cell)


def _at(x: Tensor, sender: int, block: int, dims: int) -> Tensor:
    """Of (B, ...) or (M, B, ...) with so many dimensions from B on, what one sender says of one block."""
    return x[sender, block] if x.dim() > dims else x[block]


def momenta(state: Mapping[str, Any]) -> Iterator[Tensor]:
    """The momenta in a state, however deep."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from momenta(value)
        elif key == "momentum":
            yield value


def observed(algorithm: Algorithm) -> Observed:
    return Observed(algorithm.up, algorithm.aggregate, algorithm.down, algorithm.block_size)


@contextmanager
def bodies_are_seen() -> Iterator[None]:
    """Within, bodies are written into the book of the algorithm that was last called in the same thread."""
    pieces = wire.pieces

    def seen(payloads: Sequence[Payload], planes: Sequence[Sequence[Plane]]) -> list[Tensor]:
        found = pieces(payloads, planes)
        book: Book | None = getattr(_here, "book", None)
        if book is not None and book.now is not None:
            book.body(_here.what, wire.joined(found))
        return found

    with mock.patch.object(wire, "pieces", seen):
        yield


def merged(books: Sequence[Digests]) -> dict[str, list[str]]:
    """The hash of each kind of thing by step, of all workers' digests. Raises AssertionError where two disagree."""
    joined: Digests = {}
    for own in books:
        for what, steps in own.items():
            for step, digests in steps.items():
                known = joined.setdefault(what, {}).setdefault(step, {})
                for key, digest in digests.items():
                    assert known.setdefault(key, digest) == digest, f"workers disagree on {what} of step {step}, {key}"
    return {
        what: [_hash(steps.get(step, {})) for step in range(min(steps), max(steps) + 1)]
        for what, steps in joined.items()
    }


def _hash(digests: Mapping[str, str]) -> str:
    """Of all workers or blocks together, shortened for the file."""
    return _sha(repr(sorted(digests.items())).encode())[:16]


def raw_of(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
