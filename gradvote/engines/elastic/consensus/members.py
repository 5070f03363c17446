"""Who takes part, what its ballots are called, and how it is proven that it lied."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gradvote.engines.common.slot import Slot


@dataclass(frozen=True, order=True)
class Member:
    """A process of the run. `ticket` is its own for ever; a restarted worker keeps its `number` only."""

    ticket: int
    number: int


Held = Mapping[int, bytes]
"""Ballots by ticket of their author, as names (see `signing`)."""
UNREADABLE = (LookupError, TypeError, AttributeError, ValueError, RecursionError)
"""What a JSON text of another form than expected raises; RecursionError: one nested without end."""


@dataclass(frozen=True)
class Proof:
    """Two ballots that one worker signed for one slot, by their names: whoever has its public key can check it."""

    generation: int
    slot: Slot
    author: Member
    names: tuple[bytes, bytes]

    def __str__(self) -> str:
        return f"worker {self.author.number} signed two different ballots for step {self.slot.step}"


def proofs_to_raw(proofs: Iterable[Proof]) -> list[list[Any]]:
    """Proofs as a part of a JSON text."""
    return [
        [p.generation, p.slot.step, p.slot.attempt, p.author.ticket, p.author.number, *(name.hex() for name in p.names)]
        for p in proofs
    ]


def proofs_from_raw(raw: Any) -> tuple[Proof, ...]:
    """The inverse of `proofs_to_raw`.

    Raises:
        ValueError: this is something else; also TypeError.
    """
    found = []
    for generation, step, attempt, ticket, number, first, second in raw:
        slot, author = Slot(count(step), count(attempt)), Member(count(ticket), count(number))
        found.append(Proof(count(generation), slot, author, (bytes.fromhex(first), bytes.fromhex(second))))
    return tuple(found)


def count(value: Any) -> int:
    """A number of a JSON text that fits into a ticket, a step or a worker's number.

    Raises:
        ValueError: it is none.
    """
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a count")
    return value
