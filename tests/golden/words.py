"""The elastic protocol's events and actions as text. Whoever renames them changes this file, and no transcript.

A process is called by its worker's number, with a ' for each life after the first: w2, w2', w2''.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.agreement import Action, Agreement, Forward, Propose, Tell
from gradvote.engines.elastic.consensus.members import Proof
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.shard_assignment import sources

CLOCK = {
    "expired": "the deadline has passed",
    "settled": "the others had time to answer",
    "impatient": "it waits for nobody's turn any more",
    "desperate": "it waits for no holder of a shard any more",
}
"""What time does to a member."""


class Names:
    """What processes are called, by ticket; `ticket` is the inverse."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def add(self, ticket: int, number: int) -> None:
        """A process that begins."""
        if ticket not in self._names:
            self._names[ticket] = f"w{number}" + "'" * sum(n.rstrip("'") == f"w{number}" for n in self._names.values())

    def ticket(self, name: str) -> int:
        return next(ticket for ticket, own in self._names.items() if own == name)

    def __call__(self, ticket: int) -> str:
        return self._names[ticket]

    def all(self, tickets: Iterable[int]) -> str:
        return " ".join(self(t) for t in sorted(tickets)) or "nobody"


class Spoken(Agreement):
    """An agreement that says which events it gets, and which actions it asks for."""

    names: Names
    say: Callable[[str], None]

    def ballot(self, author: int, digest: bytes) -> None:
        self._note("votes" if author == self.me else f"gets the ballot of {_ballot(self.names, author, digest)}")
        super().ballot(author, digest)

    def convict(self, proof: Proof) -> None:
        if all(self.members[t].number != proof.author.number for t in self.proofs):
            self._note(f"has a proof: w{proof.author.number} signed two ballots of {_slot(proof.slot)}")
        super().convict(proof)

    def spoiled(self, author: int) -> None:
        self._note(f"gets an altered ballot of {self.names(author)}")
        super().spoiled(author)

    def lacking(self, shards: frozenset[int]) -> None:
        if shards != self.lacks.get(self.me, frozenset()):
            self._note(f"lacks the memory of {_shards(shards)}" if shards else "has all memories of its shards")
        super().lacking(shards)

    def tells(self, peer: int, held: Mapping[int, bytes], closed: bool, lacks: frozenset[int] = frozenset()) -> None:
        self._note(f"hears of {self.names(peer)}: {_list(self.names, held, closed, lacks)}")
        super().tells(peer, held, closed, lacks)

    def lost(self, peer: int) -> None:
        self._note(f"loses {self.names(peer)}")
        super().lost(peer)

    def expired(self) -> None:
        self._note(CLOCK["expired"])
        super().expired()

    def decided(self, record: Record) -> None:
        self._note(f"the store says: {record_text(self.names, record)}")
        super().decided(record)

    def actions(self) -> Iterator[Action]:
        for action in super().actions():
            self.say(f"    {self.names(self.me)} → {_action(self.names, action)}")
            yield action

    def __setattr__(self, name: str, value: Any) -> None:
        if name in CLOCK and value:
            self._note(CLOCK[name])
        if name == "joining" and value:
            self._note(f"may let in {self.names.all(m.ticket for m in value)}")
        super().__setattr__(name, value)

    def _note(self, text: str) -> None:
        self.say(f"  {self.names(self.me)}: {text}")


def spoken(agreement: Agreement, names: Names, say: Callable[[str], None]) -> Agreement:
    """The agreement, heard from now on."""
    agreement.__class__ = Spoken
    vars(agreement).update(names=names, say=say)
    return agreement


def record_text(names: Names, record: Record) -> str:
    """A decision: what counts, who goes on, who holds which shard."""
    if record.outcome == Outcome.STOP:
        return f"{_slot(record.slot)} stops the run: {record.text}"
    counts = f"counts {names.all(record.counted)}" if record.outcome == Outcome.APPLY else "is void"
    parts = [f"{_slot(record.slot)} {counts}", f"goes on with {names.all(m.ticket for m in record.members)}"]
    if record.proofs:
        parts.append(f"leaves out for good {' '.join(f'w{n}' for n in record.liars)}")
    if record.holders:
        held = (f"{s} {'+'.join(map(names, own))}" for s, own in enumerate(record.holders))
        parts.append(f"shards {', '.join(held)}")
    givers = sources(record.holders, record.moves)
    for shard, ticket in record.moves:
        giver = givers[shard]
        how = "begins anew" if giver is None else f"comes from {names(giver)}"
        parts.append(f"{names(ticket)}'s memory of shard {shard} {how}")
    return "; ".join(parts)


def stops(record: Record) -> bool:
    return record.outcome == Outcome.STOP


def stands(slot: Slot, history: Iterable[tuple[int, frozenset[int]]], names: Names) -> str:
    """Where a process is, and what it is made of."""
    counted = ", ".join(f"{step}: {names.all(own)}" for step, own in history)
    return f"stands before {_slot(slot)}, having counted {counted or 'nothing'}"


def _action(names: Names, action: Action) -> str:
    if isinstance(action, Tell):
        proofs = "".join(f", and proves that w{p.author.number} lied" for p in action.proofs)
        return f"tell all: {_list(names, action.held, action.closed, action.lacks)}{proofs}"
    if isinstance(action, Forward):
        return f"forward the ballot of {names(action.author)} to {names(action.to)}"
    assert isinstance(action, Propose)
    return f"ask the store for: {record_text(names, action.record)}"


def _list(names: Names, held: Mapping[int, bytes], closed: bool, lacks: Iterable[int]) -> str:
    ballots = " ".join(_ballot(names, author, digest) for author, digest in sorted(held.items()))
    missing = f", without the memory of {_shards(lacks)}" if lacks else ""
    return f"{'closed' if closed else 'full'} with {ballots or 'nothing'}{missing}"


def _ballot(names: Names, author: int, digest: bytes) -> str:
    """An author's name, with a * for another ballot than it has shown to the rest."""
    return names(author) + ("*" if digest.endswith(b"/1") else "")


def _slot(slot: Slot) -> str:
    return f"step {slot.step}" + (f" (attempt {slot.attempt})" if slot.attempt else "")


def _shards(shards: Iterable[int]) -> str:
    return " and ".join(f"shard {s}" for s in sorted(shards))
