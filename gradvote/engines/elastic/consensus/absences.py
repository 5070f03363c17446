"""Why a member is left out: what each of the others saw of it, as evidence in the record of the decision.

Nothing is decided by it: who counts and who stays follows from ballots alone, so that a false reason misleads a reader
at most, and says whose it is.
"""

import enum
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from gradvote.engines.elastic.consensus.members import Member


class Why(enum.StrEnum):
    """What is wrong with a member."""

    CLOSED = "its connection was closed"
    LATE = "no ballot of it came before the deadline"
    SPOILED = "what came as its ballot was none"
    DOUBTED = "it named ballots that nobody had signed"
    SILENT = "it did not answer when the register had to decide"
    BEHIND = "it did not have all ballots that count"
    LIED = "it signed two different ballots"
    DIFFERS = "it holds other parameters than most"
    LACKING = "it had not been given the memory of its shard"


@dataclass(frozen=True)
class Reason:
    """Why worker `number` is left out, and which workers saw it."""

    number: int
    why: Why
    seen_by: tuple[int, ...]

    @property
    def evidence(self) -> str:
        """What was seen, and by whom."""
        if not self.seen_by:
            return str(self.why)
        *most, last = map(str, self.seen_by)
        return f"{self.why}, seen by {', '.join(most)} and {last}" if most else f"{self.why}, seen by {last}"

    def __str__(self) -> str:
        return f"worker {self.number} was left out: {self.evidence}"


Seen = Mapping[int, Why]
"""What one member sees of others, by ticket."""


def reasons_of(
    members: Mapping[int, Member], staying: Set[int], seen: Mapping[int, Seen], answering: Set[int]
) -> tuple[Reason, ...]:
    """Why those of `members` who do not stay are left out: what most of the others saw, and who these are.

    `seen` is by ticket of who saw it. Of whom nobody saw anything wrong, it is known whether it is `answering`.
    """
    found = []
    for ticket in sorted(members.keys() - staying):
        said = {by: own[ticket] for by, own in sorted(seen.items()) if ticket in own and by != ticket}
        otherwise = Why.BEHIND if ticket in answering else Why.SILENT
        why = max(said.values(), key=[*said.values()].count, default=otherwise)
        by = sorted(members[witness].number for witness, own in said.items() if own == why)
        found.append(Reason(members[ticket].number, why, tuple(by)))
    return tuple(found)


class WhyGivenUp(enum.StrEnum):
    """Why nothing was decided in a slot."""

    TOO_FEW = "too few workers had enough ballots for a step"
    UNSERVED = "a shard has nobody with both its memory and all ballots that count"
    UNTOLD = "nobody who answers can tell the decision on a shard"


@dataclass(frozen=True)
class GivenUp:
    """Why a slot was given up, from whom it is known, and on which evidence.

    `said_by` is the worker that put it to the register. `missing` are the reasons of those for whose absence it was so:
    the authors of ballots that did not come, or the holders of the `shards` that nobody can decide on. `num_ballots`
    were here, `num_needed` are the fewest that make a step.
    """

    why: WhyGivenUp
    said_by: int
    missing: tuple[Reason, ...] = ()
    shards: tuple[int, ...] = ()
    num_ballots: int = 0
    num_needed: int = 0

    def __str__(self) -> str:
        here = f"{self.num_ballots} here, min_workers is {self.num_needed}"
        what = f" ({', '.join(map(str, self.shards)) if self.shards else here})"
        evidence = "".join(f"; worker {r.number}: {r.evidence}" for r in self.missing)
        return f"given up, as worker {self.said_by} has found: {self.why}{what}{evidence}"


def seen_to_raw(seen: Seen) -> dict[str, str]:
    """As a part of a JSON text."""
    return {str(ticket): why.name for ticket, why in sorted(seen.items())}


def seen_from_raw(raw: Any) -> dict[int, Why]:
    """The inverse of `seen_to_raw`.

    Raises:
        ValueError: this is something else; also LookupError, TypeError and AttributeError.
    """
    return {int(ticket): Why[why] for ticket, why in raw.items()}


def given_up_to_raw(given_up: GivenUp | None) -> list[Any] | None:
    """As a part of a JSON text."""
    if given_up is None:
        return None
    counts = given_up.num_ballots, given_up.num_needed
    return [given_up.why.name, given_up.said_by, reasons_to_raw(given_up.missing), list(given_up.shards), *counts]


def reasons_to_raw(reasons: Iterable[Reason]) -> list[list[Any]]:
    """As a part of a JSON text."""
    return [[reason.number, reason.why.name, list(reason.seen_by)] for reason in reasons]
