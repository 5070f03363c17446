"""What a member has to do for an agreement: tell, forward, propose."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradvote.engines.elastic.consensus.absences import Seen
from gradvote.engines.elastic.consensus.members import Proof
from gradvote.engines.elastic.consensus.records import Record


@dataclass(frozen=True)
class Tell:
    """Tell all members what is held here, of which shards the memory is missing, and what is seen of who is absent."""

    held: Mapping[int, bytes]
    closed: bool
    proofs: tuple[Proof, ...] = ()
    lacks: frozenset[int] = frozenset()
    seen: Seen = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Forward:
    """Send the ballot of `author` to a member that misses it."""

    author: int
    to: int


@dataclass(frozen=True)
class Propose:
    """Put the record to the register; `decided` gets its answer."""

    record: Record


Action = Tell | Forward | Propose
