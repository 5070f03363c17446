"""Why a member is left out: what each of the others saw of it, as evidence in the record of the decision.

Nothing is decided by it: who counts and who stays follows from ballots alone, so that a false reason misleads a reader
at most, and says whose it is.
"""

import enum
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # records have reasons in them
    from gradvote.engines.elastic.records import Member


class Why(enum.StrEnum):
    """What is wrong with a member."""

    CLOSED = "its connection was closed"
    LATE = "no ballot of it came before the deadline"
    SPOILED = "what came as its ballot was none"
    DOUBTED = "it named ballots that nobody had signed"
    SILENT = "it did not answer when the register had to decide"
    BEHIND = "it did not have all ballots that count"
    LIED = "it signed two different ballots"


@dataclass(frozen=True)
class Reason:
    """Why worker `number` is left out, and which workers saw it."""

    number: int
    why: Why
    seen_by: tuple[int, ...]

    def __str__(self) -> str:
        if not self.seen_by:
            return f"worker {self.number} was left out: {self.why}"
        *most, last = map(str, self.seen_by)
        seen = f"{', '.join(most)} and {last}" if most else last
        return f"worker {self.number} was left out: {self.why}, seen by {seen}"


Seen = Mapping[int, Why]
"""What one member sees of others, by ticket."""


def reasons_of(
    members: Mapping[int, "Member"], staying: Set[int], seen: Mapping[int, Seen], answering: Set[int]
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


def seen_to_raw(seen: Seen) -> dict[str, str]:
    """As a part of a JSON text."""
    return {str(ticket): why.name for ticket, why in sorted(seen.items())}


def seen_from_raw(raw: Any) -> dict[int, Why]:
    """The inverse of `seen_to_raw`.

    Raises:
        ValueError: this is something else; also LookupError, TypeError and AttributeError.
    """
    return {int(ticket): Why[why] for ticket, why in raw.items()}


def reasons_to_raw(reasons: Iterable[Reason]) -> list[list[Any]]:
    """As a part of a JSON text."""
    return [[reason.number, reason.why.name, list(reason.seen_by)] for reason in reasons]
