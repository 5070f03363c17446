"""The nouns. A round is: worker encodes, server combines, worker decodes; everything else is a part or a place.

Shapes: M workers, B blocks, n coordinates of one block, W 64-bit words of packed bits. Parts act on (..., B, n);
leading axes are invisible, so M simulated workers are one call on (M, B, n). A *block* is at most `block_size`
consecutive coordinates of one parameter tensor, with its own scale and validity flag.

Parts are frozen dataclasses: printable, comparable, picklable; their `repr` is the recipe. State is a value (nested
dicts of tensors), passed in and returned.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradvote.fitting import Checked
from gradvote.nouns import LEAST_RATE, SERVER, UNITS, Context, Payload, Plane, State, Units

__all__ = [
    "LEAST_RATE",
    "SERVER",
    "SHORTCUTS",
    "UNITS",
    "Aggregator",
    "Algorithm",
    "Codec",
    "Context",
    "Part",
    "Payload",
    "Plane",
    "State",
    "Transform",
    "Units",
    "shortcut",
]


class Part(Checked):
    """What has state, and alone knows what its state holds."""

    def init(self, like: Tensor) -> State:
        """The state before the first step, for input shaped like `like` (..., B, n)."""
        return {}

    def unsent(self, state: State) -> Tensor | None:
        """What was put in and is still to be sent (..., B, n), in gradient units; None: nothing is ever kept back.

        sent + unsent == input + unsent before (in units of the present learning rate), and unsent is all of it where
        the payload was `undelivered`.
        """
        return None

    @property
    def keeps(self) -> float:
        """The share of what was unsent that is still to be sent in the next step; below 1 for a memory that fades.

        sent + unsent == input + keeps · unsent before.
        """
        return 1.0

    @property
    def precision(self) -> float:
        """The share of itself by which what is unsent may be off, as its memory has fewer digits than float32."""
        return 0.0

    def mirrored(self, state: State) -> Tensor | None:
        """What the receiver has added up of this sender (..., B, n), in gradient units; None: it adds up nothing.

        The other kind of memory, an estimate that both ends keep (EF21): it begins at zero, mirrored == mirrored before
        + sent whatever the learning rate, and a payload that was `undelivered` or abstained is not in it. Nothing of
        the input is owed, so `unsent` is None. Both ends must stay: states are not merged, and engines whose workers
        come and go refuse such a part.
        """
        return None

    def merge(self, own: State, other: State) -> State:
        """The state `own` after it took over what `other`, of a sender that leaves, holds unsent.

        What has a unit is rescaled to the learning rate of `own`. Momenta are not merged: they are averages of what
        has been sent already.
        """
        return own

    @property
    def reports(self) -> tuple[Plane, ...]:
        """Planes beside the vectors: each worker's travel with its ballot, what they give with the decision."""
        return ()

    def check_reports(self, payload: Payload) -> Payload:
        """A ballot or decision with the flag of every block cleared whose reports no honest sender produces."""
        return payload

    def combine_reports(self, ballots: Payload) -> dict[str, Tensor]:
        """Server: these planes of the decision (..., B), from those of the ballots (M, ..., B)."""
        return {}

    def learn(self, state: State, decision: Payload) -> State:
        """Worker: the state after the decision brought them."""
        return state


class Transform(Part, ABC):
    """A step before the codec: (x, state, ctx) -> (x, state)."""

    @abstractmethod
    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]: ...

    def report(self, state: State) -> dict[str, Tensor]:
        """The planes `reports` of a ballot, from the state after this step."""
        return {}


class Aggregator(Checked, ABC):
    """x (M, ..., B, n) and flags (M, ..., B) -> (..., B, n); a block without a valid voter becomes NaN (no decision).

    `separable` is False for rules that need the whole vector (Krum, nearest-neighbour mixing): they are given one row
    that holds it, and run only where a server holds whole payloads.
    """

    separable = True

    @abstractmethod
    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor: ...

    def tolerates(self, num_workers: int) -> int:
        """How many of so many workers may say anything, and the result stays what honest ones say who agree."""
        return 0

    def ties(self, up: "Codec", ballots: Payload, ctx: Context, n: int) -> int:
        """Coordinates of ballots (M, ..., B) on which a vote is split evenly; a unit on which nobody voted is none."""
        return 0


SHORTCUTS: dict[tuple[object, ...], Callable[..., Any]] = {}
"""Faster ways to the same bits, by what is done and the exact types of parts; `gradvote.codecs.fast_paths` fills it."""


def shortcut(doing: str, parts: tuple[object, ...], *given: object) -> Any:
    """What the faster way for these parts gives; None where there is none, or it does not serve for what is given."""
    way = SHORTCUTS.get((doing, *map(type, parts)))
    return None if way is None else way(*parts, *given)


class Codec(Part, ABC):
    """Vectors to payloads and back. A codec around another one is a `WrapperCodec`, which forgets no member."""

    @property
    def reader(self) -> "Codec":
        """The codec that may read these payloads in its place: the one inside, where this one adds nothing to them."""
        return self

    @abstractmethod
    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        """What is sent for a block of n coordinates: from sizes, seed, step and sender, never from data."""

    @abstractmethod
    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]: ...

    @abstractmethod
    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        """The vector (..., B, n) a payload stands for; zero where a block abstained or a coordinate was not sent."""

    def check(self, payload: Payload, n: int) -> Payload:
        """The payload with the flag of every block cleared whose content no honest sender produces."""
        return payload

    def reduce(self, payload: Payload, aggregator: Aggregator, ctx: Context, n: int) -> Tensor:
        """Aggregate M payloads (leading axis M); equals `aggregator(decode(payload))`, often without decoding."""
        short: Tensor | None = shortcut("reduce", (self, aggregator), payload, ctx, n)
        return aggregator(self.decode(payload, ctx, n), payload.valid, ctx) if short is None else short

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        """The state of a sender whose payload did not count: everything in it stays unsent, nothing of it mirrored."""
        return state


@dataclass(frozen=True)
class Algorithm(Checked):
    """A worker half, a rule and a server half. Engines call `encode`, `combine`, `decode` and `undelivered` only."""

    up: Codec
    aggregate: Aggregator
    down: Codec
    block_size: int | None = 16384

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        """Worker: update (..., B, n) -> ballot."""
        return self.up.encode(x, state, ctx)

    def combine(self, ballots: Payload, state: State, ctx: Context, n: int) -> tuple[Payload, State]:
        """Server: ballots (M, ..., B) with their senders in `ctx` -> decision (..., B)."""
        parts = self.up.reader, self.aggregate, self.down
        decision: Payload | None = shortcut("combine", parts, ballots, ctx, n)
        if decision is None:
            return self.decide(self.up.reduce(ballots, self.aggregate, ctx, n), ballots, state, ctx)
        return self._reporting(decision, ballots), state

    def decide(self, x: Tensor, ballots: Payload, state: State, ctx: Context) -> tuple[Payload, State]:
        """Server: the aggregate (..., B, n) of ballots (M, ..., B) -> decision (..., B)."""
        decision, state = self.down.encode(x, state, ctx.as_server())
        return self._reporting(decision, ballots), state

    def _reporting(self, decision: Payload, ballots: Payload) -> Payload:
        return decision.carrying(self.up.combine_reports(ballots)) if self.up.reports else decision

    def decode(
        self, decision: Payload, state: State, ctx: Context, n: int, out: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Worker: decision -> direction (..., B, n) for an ordinary optimizer, in `out`, and the worker's state."""
        if self.up.reports:
            state = self.up.learn(state, decision)
        at_server = ctx.as_server()
        if out is not None and shortcut("decode into", (self.down.reader,), decision, at_server, n, out) is not None:
            return out, state
        direction = self.down.decode(decision, at_server, n)
        return (direction if out is None else out.copy_(direction)), state

    def undelivered(self, state: State, ballot: Payload, ctx: Context, n: int) -> State:
        """Worker: the state after a ballot that did not count; sent + unsent == input holds with sent = 0."""
        return self.up.undelivered(state, ballot, ctx, n)

    def unsent(self, state: State) -> Tensor | None:
        """Worker: what it still has to send (..., B, n), or None where nothing is ever kept back."""
        return self.up.unsent(state)

    @property
    def mirrors(self) -> bool:
        """Whether the server adds up what each worker sent, so that workers may not come and go."""
        return self.up.mirrored(self.up.init(torch.zeros(1, 1, dtype=torch.float32, device="cpu"))) is not None

    def merge(self, own: State, other: State) -> State:
        """Worker: its state after it took over what a leaving one has not sent."""
        return self.up.merge(own, other)
