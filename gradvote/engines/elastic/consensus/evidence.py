"""What one member knows of a slot: who holds which ballot, who is gone, who lied. Events come in here."""

from collections.abc import Iterable, Mapping, Sequence

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.absences import Seen, Why
from gradvote.engines.elastic.consensus.members import Member, Proof
from gradvote.engines.elastic.consensus.records import Record
from gradvote.engines.elastic.consensus.shard_assignment import Holders


class Evidence:
    """`held` are the ballots that are here, `heard` what others have said of theirs, by ticket.

    `generation` is that of the group where ballots are signed, so that names prove something; None where they are not.
    `proofs` has the members that lied, by ticket; all names and proofs that come in have been checked.
    """

    def __init__(
        self,
        me: int,
        slot: Slot,
        members: Sequence[Member],
        quorum: int,
        generation: int | None = None,
        suspects: Iterable[int] = (),
        holders: Holders = (),
    ) -> None:
        self.holders, self.lacks = holders, dict[int, frozenset[int]]()
        self.me, self.slot, self.quorum, self.generation = me, slot, quorum, generation
        self.members = {m.ticket: m for m in members}
        self.proofs, self.doubted = dict[int, Proof](), set[int]()
        self._wary = not self.members.keys().isdisjoint(suspects)
        self._names: dict[int, bytes] = {}
        self.joining: tuple[Member, ...] = ()
        self.held: dict[int, bytes] = {}
        self.heard: dict[int, tuple[dict[int, bytes], bool]] = {}
        self.gone, self.decision = set[int](), None  # type: set[int], Record | None
        self.full = self.closed = self.late = self.settled = self.impatient = self.desperate = False
        self._spoiled: set[int] = set()
        self._told: tuple[frozenset[int], bool, int, frozenset[int]] | None = None
        self._forwarded: set[tuple[int, int]] = set()
        self._seen = dict[int, Seen]()
        self._fresh: set[int] | None = None

    def ballot(self, author: int, digest: bytes) -> None:
        """A sound ballot is held here now. The first one of an author stays."""
        if author in self.members:
            self.held.setdefault(author, digest)
            self.saw(author, digest)

    def saw(self, author: int, name: bytes) -> None:
        """There is a ballot of a member with this name; another one than before proves a lie."""
        known = self._names.setdefault(author, name)
        if self.generation is not None and known != name:
            self.convict(Proof(self.generation, self.slot, self.members[author], (known, name)))

    def convict(self, proof: Proof) -> None:
        """A worker is known to have lied, in this slot or before it."""
        for ticket, member in self.members.items():
            if member.number == proof.author.number:
                self.proofs.setdefault(ticket, proof)

    def spoiled(self, author: int) -> None:
        """What came as a member's ballot was none: it is not waited for any more, but may come by another member."""
        self._spoiled.add(author)

    def lacking(self, shards: frozenset[int]) -> None:
        """The shards held here whose memory has not arrived."""
        self.lacks[self.me] = shards

    def tells(self, peer: int, held: Mapping[int, bytes], closed: bool, lacks: frozenset[int] = frozenset()) -> None:
        """A member said what it holds."""
        if peer in self.members and peer != self.me:
            self.lacks[peer] = lacks
            if self._fresh is not None:
                self._fresh.add(peer)
            known = {a: d for a, d in held.items() if a in self.members}
            self.heard[peer] = known, closed
            for author, name in known.items():
                self.saw(author, name)

    def sees(self, peer: int, seen: Seen) -> None:
        """A member said what it sees of members that are absent: it decides nothing, and is kept for the record."""
        self._seen[peer] = {ticket: why for ticket, why in seen.items() if ticket in self.members}

    def doubt(self, peer: int) -> None:
        """A member named what nobody has signed: it has not answered."""
        self.heard.pop(peer, None)
        self.doubted.add(peer)

    def lost(self, peer: int) -> None:
        """The link to a member broke."""
        self.gone.add(peer)

    def found(self, peer: int) -> None:
        """The link to a member is back; it has to be told again."""
        self.gone.discard(peer)
        self._told = None
        self._forwarded = {(author, to) for author, to in self._forwarded if to != peer}

    def expired(self) -> None:
        """The deadline has passed: no more waiting for ballots."""
        self.late = True

    def slowed(self) -> None:
        """The register has to decide: what others say from now on shows who is there, what they said before not."""
        self._fresh = set()

    def beat(self) -> None:
        """Some time has passed since: say once more what is held here, to show that this member is there."""
        self._told = None

    def decided(self, record: Record) -> None:
        """The register's answer, seen here or by another member."""
        assert record.slot == self.slot
        self.decision = self.decision or record
        for author, name in record.counted.items():
            if author in self.members:
                self.saw(author, name)

    def conflicts(self) -> dict[int, dict[bytes, list[int]]]:
        """Authors of whom different ballots are about: who holds which."""
        seen: dict[int, dict[bytes, list[int]]] = {}
        for holder, held in [(self.me, self.held), *((p, h) for p, (h, _) in sorted(self.heard.items()))]:
            for author, digest in held.items():
                seen.setdefault(author, {}).setdefault(digest, []).append(holder)
        return {author: versions for author, versions in seen.items() if len(versions) > 1}

    def accusation(self) -> str:
        texts = []
        for author, versions in sorted(self.conflicts().items()):
            sides = [" and ".join(str(self.members[t].number) for t in holders) for holders in versions.values()]
            texts.append(
                f"worker {' and worker '.join(sides)} hold different ballots of worker {self.members[author].number}"
            )
        return "; ".join(texts)

    def _absent(self) -> dict[int, Why]:
        kinds = {Why.LATE: self.members.keys() - self.held.keys() if self.late else set[int]()}
        kinds |= {Why.SPOILED: self._spoiled - self.held.keys(), Why.DOUBTED: self.doubted, Why.CLOSED: self.gone}
        seen = {ticket: why for why, tickets in kinds.items() for ticket in tickets}
        return {t: why for t, why in (seen | dict.fromkeys(self.proofs, Why.LIED)).items() if t in self.members}

    def able(self, shard: int) -> set[int]:
        """Who has the memory of a shard."""
        return {t for t in self.holders[shard] if shard not in self.lacks.get(t, ())}

    def _answering(self) -> set[int]:
        return self.heard.keys() - self.gone - self.proofs.keys()

    def _is_full(self, ticket: int) -> bool:
        """Whether a member has said that it holds exactly what is held here."""
        return ticket in self.heard and self.heard[ticket] == (self.held, False)
