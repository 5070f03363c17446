"""What members agree on: what has become of a slot; and what they tell each other before that."""

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.absences import (
    GivenUp,
    Reason,
    Seen,
    Why,
    WhyGivenUp,
    given_up_to_raw,
    reasons_to_raw,
    seen_from_raw,
    seen_to_raw,
)
from gradvote.engines.elastic.consensus.members import (
    UNREADABLE,
    Held,
    Member,
    Proof,
    count,
    proofs_from_raw,
    proofs_to_raw,
)
from gradvote.engines.elastic.consensus.shard_assignment import Holders, Moves


class Outcome(enum.StrEnum):
    """APPLY: the counted ballots decide. VOID: nothing changes, the next attempt begins. STOP: the run must end."""

    APPLY = "apply"
    VOID = "void"
    STOP = "stop"


@dataclass(frozen=True)
class Record:
    """The decision on a slot: the ballots that count, and the members of the slot after it.

    Where the server is sharded, also who holds which shard from then on, and who has to be given its memory.
    """

    slot: Slot
    outcome: Outcome
    counted: Held = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    text: str = ""
    proofs: tuple[Proof, ...] = ()
    """Against the members that are left out for good."""
    holders: Holders = ()
    moves: Moves = ()
    reasons: tuple[Reason, ...] = ()
    """Why members are left out."""
    given_up: GivenUp | None = None
    """Why nothing was decided, where that is so."""

    @property
    def liars(self) -> tuple[int, ...]:
        """The numbers of the workers that are left out for good."""
        return tuple(proof.author.number for proof in self.proofs)

    @property
    def next(self) -> Slot:
        """The slot its members go on with."""
        return self.slot.after(self.applied)

    @property
    def applied(self) -> bool:
        """Whether ballots decided."""
        return self.outcome == Outcome.APPLY

    @property
    def stops(self) -> bool:
        """Whether the run must end."""
        return self.outcome == Outcome.STOP

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
                "proofs": proofs_to_raw(self.proofs),
                "holders": self.holders,
                "moves": self.moves,
                "reasons": reasons_to_raw(self.reasons),
                "given_up": given_up_to_raw(self.given_up),
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
        members = tuple(Member(count(t), count(n)) for t, n in raw["members"])
        slot, proofs = Slot(*map(count, raw["slot"])), proofs_from_raw(raw["proofs"])
        holders, moves = holders_from_raw(raw["holders"]), moves_from_raw(raw["moves"])
        why = reasons_from_raw(raw["reasons"]), given_up_from_raw(raw["given_up"])
        outcome, text = Outcome(raw["outcome"]), str(raw["text"])
        return Record(slot, outcome, counted, members, text, proofs, holders, moves, *why)
    except UNREADABLE as error:
        raise ValueError(f"This is not a record of a decision: {error}") from error


def held_to_json(
    held: Held, closed: bool, proofs: Iterable[Proof] = (), lacks: Iterable[int] = (), seen: Seen = MappingProxyType({})
) -> str:
    """What a member holds, can prove, and sees of others, and the shards whose memory it lacks, for the others."""
    names = {str(t): d.hex() for t, d in sorted(held.items())}
    raw = {"held": names, "closed": closed, "proofs": proofs_to_raw(proofs), "lacks": sorted(lacks)}
    return json.dumps({**raw, "seen": seen_to_raw(seen)})


def held_from(text: bytes) -> tuple[dict[int, bytes], bool, tuple[Proof, ...], frozenset[int], dict[int, Why]]:
    """The inverse of `held_to_json`.

    Raises:
        ValueError: the text is something else.
    """
    try:
        raw = json.loads(text)
        held = {int(t): bytes.fromhex(digest) for t, digest in raw["held"].items()}
        lacks, seen = frozenset(map(count, raw["lacks"])), seen_from_raw(raw["seen"])
        return held, bool(raw["closed"]), proofs_from_raw(raw["proofs"]), lacks, seen
    except UNREADABLE as error:
        raise ValueError(f"This is not a list of ballots: {error}") from error


def holders_from_raw(raw: Any) -> Holders:
    """The holders in a JSON text.

    Raises:
        ValueError: this is something else; also TypeError.
    """
    return tuple(tuple(map(count, own)) for own in raw)


def moves_from_raw(raw: Any) -> Moves:
    """The moves in a JSON text.

    Raises:
        ValueError: this is something else; also TypeError.
    """
    return tuple((count(shard), count(ticket)) for shard, ticket in raw)


def reasons_from_raw(raw: Any) -> tuple[Reason, ...]:
    """The reasons in a JSON text.

    Raises:
        ValueError: this is something else; also LookupError and TypeError.
    """
    return tuple(Reason(count(number), Why[why], tuple(map(count, by))) for number, why, by in raw)


def given_up_from_raw(raw: Any) -> GivenUp | None:
    """The inverse of `given_up_to_raw`.

    Raises:
        ValueError: this is something else; also LookupError and TypeError.
    """
    if raw is None:
        return None
    why, said_by, missing, shards, *counts = raw
    numbers, (num_ballots, num_needed) = tuple(map(count, shards)), map(count, counts)
    return GivenUp(WhyGivenUp[why], count(said_by), reasons_from_raw(missing), numbers, num_ballots, num_needed)
