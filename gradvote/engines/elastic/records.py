"""What members agree on: who they are, which round it is, and what has become of it."""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Outcome(enum.StrEnum):
    """APPLY: the counted ballots decide. VOID: nothing changes, the next attempt begins. STOP: the run must end."""

    APPLY = "apply"
    VOID = "void"
    STOP = "stop"


@dataclass(frozen=True, order=True)
class Slot:
    """A round: an attempt at a step. Each slot is decided once, for everyone."""

    step: int = 0
    attempt: int = 0

    def after(self, outcome: Outcome) -> "Slot":
        """The slot that follows one with this outcome."""
        return Slot(self.step + 1) if outcome == Outcome.APPLY else Slot(self.step, self.attempt + 1)


@dataclass(frozen=True, order=True)
class Member:
    """A process of the run. `ticket` is its own for ever; a restarted worker keeps its `number` only."""

    ticket: int
    number: int


Held = Mapping[int, bytes]
"""Ballots by ticket of their author, as digests."""


@dataclass(frozen=True)
class Record:
    """The decision on a slot: the ballots that count, and the members of the slot after it."""

    slot: Slot
    outcome: Outcome
    counted: Held = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    text: str = ""

    @property
    def next(self) -> Slot:
        """The slot its members go on with."""
        return self.slot.after(self.outcome)

    def has(self, ticket: int) -> bool:
        """Whether this process takes part in the next slot."""
        return any(m.ticket == ticket for m in self.members)

    def to_json(self) -> str:
        """As text for the register and for frames."""
        return json.dumps(
            {
                "slot": [self.slot.step, self.slot.attempt],
                "outcome": self.outcome.value,
                "counted": {str(t): digest.hex() for t, digest in sorted(self.counted.items())},
                "members": [[m.ticket, m.number] for m in self.members],
                "text": self.text,
            }
        )


def record_from(text: str | bytes) -> Record:
    """The record in a text.

    Raises:
        ValueError: the text is not a record.
    """
    try:
        raw = json.loads(text)
        counted = {int(t): bytes.fromhex(digest) for t, digest in raw["counted"].items()}
        members = tuple(Member(_count(t), _count(n)) for t, n in raw["members"])
        slot = Slot(*map(_count, raw["slot"]))
        return Record(slot, Outcome(raw["outcome"]), counted, members, str(raw["text"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"This is not a record of a decision: {error}") from error


def held_to_json(held: Held, closed: bool) -> str:
    """The ballots a member holds, for the others."""
    return json.dumps({"held": {str(t): d.hex() for t, d in sorted(held.items())}, "closed": closed})


def held_from(text: bytes) -> tuple[dict[int, bytes], bool]:
    """The inverse of `held_to_json`.

    Raises:
        ValueError: the text is something else.
    """
    try:
        raw = json.loads(text)
        return {int(t): bytes.fromhex(digest) for t, digest in raw["held"].items()}, bool(raw["closed"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"This is not a list of ballots: {error}") from error


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value
