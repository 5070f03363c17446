"""One slot as one member sees it: which ballots count, decided alike by all, whoever fails, and whenever.

A pure state machine: events in, actions out; no clocks, no sockets. The rule:

1. Everyone sends its ballot to everyone. Who holds the ballots of all members says so (*full*), and promises to
   propose nothing else. Who has heard an equal *full* from all members decides: all ballots count. No third party.
2. Who misses a ballot whose author is gone, or late, or which came spoiled, *closes*: it says what it holds, and never
   says *full* in this slot. Everyone then closes; members forward ballots to those who miss them; the first member that
   answers proposes the ballots that the answering ones hold to a register, which keeps the first proposal it is given.
   What the register holds is the decision.

Who hears nobody, though links to two and more stand, lets these go first: it may be cut off one way, and its own ballot
in no other hands. They would wait for it, if it counted.

If anyone decides by 1, all members have promised the full set, so every proposal by 2 is that same set: the two ways
cannot differ, without any assumption on timing. Who counts and who stays is one record, so all members apply the same
set or none; those who stay hold every ballot that counts.

Where ballots are signed, two names of one author's ballot prove that it lied, to everyone. The run stops without
signatures; with them the author is left out for good, and what is promised above is still kept:

3. Two other members who hold different ballots of it, both *full*, have not heard an equal *full* from all, nor has
   anyone: rule 1 decides nothing, the register is free, and the record leaves the liar out.
4. What a proven liar says frees nobody from a promise: it may have told others otherwise, who have decided by 1. Who
   has said *full*, and knows of the lie by the author's own words only, or by a ballot that came late, goes for the
   full set, the liar's ballot included, and keeps the proof.
5. Who has a proof never says *full*: it closes when the other ballots are here, and tells the proof with what it holds.
   So in the next slot at the latest all know, no one decides by 1, and the record leaves the liar out.

Where the server is sharded, a member's ballot is held by who holds the parts of it for its own shards. Who lacks the
memory of one of them does not say *full*, and says which. A set of ballots can only count if each shard has a holder
that holds them all and has the memory; where a shard has lost both, the slot is void, and its memory begins anew.
Before that, holders that are connected but silent are waited for once more as long, and what they have said before the
round became slow is no sign of life: they may have been cut off since.

A list with a name that its author has not signed is void: its teller is *doubted*, as one that did not answer, and in
the next slot a *suspect*: nobody who doubted it says *full*, so that who still does not answer is left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from gradvote.engines.elastic.consensus.absences import GivenUp, Reason, Seen, Why, WhyGivenUp, reasons_of
from gradvote.engines.elastic.consensus.evidence import Evidence
from gradvote.engines.elastic.consensus.members import Held, Member, Proof
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.shard_assignment import Holders, Moves, arranged


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


class Agreement(Evidence):
    """Events are methods; after each one, carry out what `actions()` yields, and look at `decision`."""

    @property
    def slow(self) -> bool:
        """Whether the register has to decide."""
        silent = self.gone | self.doubted | self.proofs.keys()
        unheard_of = any(t in silent and not self._is_full(t) for t in self.members)
        return self.closed or (self.full and (self.late or unheard_of or not self._bound))

    def actions(self) -> Iterator[Action]:
        """What is to be done now."""
        if self.decision is None:
            yield from self._tell()
        if self.decision is None and self.slow:
            yield from self._forward()
        if self.decision is None:
            yield from self._settle()

    def _tell(self) -> Iterator[Action]:
        if not self.closed and not self.full:
            missing = self.members.keys() - self.held.keys() - self.proofs.keys()
            admits = (bool(self.joining) and self.me == self._first()) or len(self.members) < self.quorum
            trusting, lacks = not self.proofs and not self._wary and not self.doubted, self.lacks.get(self.me)
            self.full = not missing and not admits and trusting and not lacks and not self._others_closed()
            over = missing <= self.gone | self._spoiled and not lacks
            self.closed = not self.full and (self.late or over or self._others_closed())
        if self.full or self.closed:
            now = frozenset(self.held), self.closed, len(self.proofs), self.lacks.get(self.me, frozenset())
            if now != self._told:
                self._told = now
                yield Tell(dict(self.held), self.closed, tuple(self.proofs.values()), now[-1], self._absent())

    def _reasons(self, staying: Iterable[Member]) -> tuple[Reason, ...]:
        answering = self._answering()
        seen = {self.me: self._absent(), **{t: own for t, own in self._seen.items() if t in answering}}
        return reasons_of(self.members, {m.ticket for m in staying}, seen, answering)

    def _forward(self) -> Iterator[Action]:
        for peer, (held, _) in sorted(self.heard.items()):
            for author in sorted(self.held.keys() - held.keys() - {peer} - self.proofs.keys()):
                if self._forwards(author, peer) and (author, peer) not in self._forwarded:
                    self._forwarded.add((author, peer))
                    yield Forward(author, peer)

    def _forwards(self, author: int, peer: int) -> bool:
        """Whether this member forwards a ballot: the first holder does, or the author where nobody else has it.

        Of sharded ones each holds a part; author and co-holders forward what they have.
        """
        if self.holders:
            return self.me == author or any({self.me, peer} <= {*own} for own in self.holders)
        others = [p for p, (held, _) in self.heard.items() if author in held and p not in self.gone | {author}]
        return not others if self.me == author else self.me < min(others, default=self.me + 1)

    def _settle(self) -> Iterator[Action]:
        if self.full and all(self._is_full(t) for t in self.members if t != self.me):
            self.decision = self.whole()
        elif self.slow and self._my_turn() and (record := self.proposal()) is not None:
            yield Propose(record)

    def proposal(self) -> Record | None:
        """What to put to the register; None while there are too few members."""
        if self.full and self._bound:
            return self.whole()
        if self._must_stop:
            return Record(self.slot, Outcome.STOP, text=self.accusation())
        holdings = self._holdings()
        if holdings is None or self.me in self.proofs:
            return None
        proofs, text = tuple(self.proofs.values()), "; ".join(map(str, self.proofs.values()))
        held = {a: d for a, d in self.held.items() if a not in self.proofs}
        common = {a: d for a, d in held.items() if all(a in h for h in holdings.values())}
        counted = common if len(common) >= self.quorum else held
        staying = [self.members[t] for t in sorted(holdings) if counted.keys() <= holdings[t].keys()]
        members = self.with_joining(staying)
        covered = all(self.able(shard) & {m.ticket for m in staying} for shard in range(len(self.holders)))
        if len(counted) >= self.quorum and len(staying) >= self.quorum and covered:
            holders, why = self.next_holders(members), self._reasons(members)
            return Record(self.slot, Outcome.APPLY, counted, members, text, proofs, *holders, why)
        everyone = self.with_joining([self.members[t] for t in holdings])
        if len(everyone if not covered else members if self.joining else ()) >= self.quorum:
            holders, why = self.next_holders(everyone), self._reasons(everyone)
            given_up = self._given_up(set(counted), {m.ticket for m in staying})
            return Record(self.slot, Outcome.VOID, {}, everyone, text, proofs, *holders, why, given_up)
        return None

    def _holdings(self) -> Mapping[int, Held] | None:
        """What is held by those who answer; None while it is worth waiting for others."""
        holdings: dict[int, Held] = {self.me: self.held, **{p: self.heard[p][0] for p in self._answering()}}
        if self._counts_on_silence(holdings.keys()):
            if not self.desperate:
                return None
            holdings = {p: own for p, own in holdings.items() if p in self._there}
        return None if self._spares(holdings.keys()) and not self.desperate else holdings

    def _given_up(self, counted: Set[int], staying: Set[int]) -> GivenUp:
        """Why nothing can be decided: a shard has no able holder among those who stay, or too few ballots are here."""
        me, shards = self.members[self.me].number, [s for s in range(len(self.holders)) if not self.able(s) & staying]
        if not shards:
            missing = self._reasons(self.members[t] for t in counted)
            return GivenUp(WhyGivenUp.TOO_FEW, me, missing, (), len(counted), self.quorum)
        holders = {t: self.members[t] for s in shards for t in self.holders[s] if t in self.members}
        lacking = {t for t in holders if not self.lacks.get(t, frozenset()).isdisjoint(shards)}
        own = tuple(Reason(holders[t].number, Why.LACKING, (holders[t].number,)) for t in sorted(lacking))
        gone = self._reasons(m for t, m in self.members.items() if t not in holders or t in lacking)
        return GivenUp(WhyGivenUp.UNSERVED, me, own + gone, tuple(shards), len(counted), self.quorum)

    def _spares(self, answering: Set[int]) -> bool:
        """Whether a shard would be lost by leaving out somebody who is silent, but connected: worth waiting for."""
        able = [self.able(shard) for shard in range(len(self.holders))]
        return any(not own & answering and own - self.gone - self.proofs.keys() for own in able)

    @property
    def _there(self) -> set[int]:
        """Who has spoken since the round has become slow, this member with them; all, where nobody was asked to."""
        return {self.me, *(self.members if self._fresh is None else self._fresh)}

    def _counts_on_silence(self, answering: Set[int]) -> bool:
        """Whether all who could decide on a shard are such as have spoken only before the round became slow.

        They may be cut off since: with their ballots agreed on, the others would have to wait for their decision.
        """
        able = (self.able(shard) & answering for shard in range(len(self.holders)))
        return any(own and not own & self._there for own in able)

    def next_holders(self, members: Iterable[Member]) -> tuple[Holders, Moves]:
        """Who holds which shard among these, and who has to be given its memory."""
        tickets = {m.ticket for m in members}
        return arranged([self.able(s) & tickets for s in range(len(self.holders))], tickets)

    def whole(self) -> Record:
        """All ballots count, all members stay: what rule 1 decides."""
        members = tuple(sorted(self.members.values()))
        return Record(self.slot, Outcome.APPLY, dict(self.held), members, holders=self.holders)

    def with_joining(self, staying: Iterator[Member] | Sequence[Member]) -> tuple[Member, ...]:
        """These members, and the processes that can be let in."""
        newest: dict[int, Member] = {}
        for member in sorted((*staying, *self.joining)):
            newest[member.number] = member
        return tuple(sorted(newest.values()))

    def _my_turn(self) -> bool:
        answering = self._answering()
        silent = self.members.keys() - self.gone - answering - {self.me} - self.proofs.keys()
        alike = all(self.heard[p][0].keys() ^ self.held.keys() <= self.proofs.keys() for p in answering)
        ready = self.settled or (not silent and alike) or self._must_stop
        if len(silent) > 1 and not answering and not (self.desperate or self._must_stop):
            return False
        return self.impatient or (ready and self.me < min(answering, default=self.me + 1))

    def _first(self) -> int:
        return min(self.members.keys() - self.gone)

    def _others_closed(self) -> bool:
        return any(closed for _, closed in self.heard.values())

    @property
    def _bound(self) -> bool:
        """Whether another member may have decided already, for all that is known here."""
        return all(self._is_full(t) for t in self.heard.keys() - self.proofs.keys())

    @property
    def _must_stop(self) -> bool:
        return self.generation is None and bool(self.conflicts())
