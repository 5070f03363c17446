"""The world of `world`, with the server in shards: what a memory is worth is the history that it was made of.

Decisions on shards travel over the links as all else does, and may be lost with them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.agreement import Agreement
from gradvote.engines.elastic.consensus.confirmation import Confirmation
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.shard_assignment import Holders, arranged, held_by, sources
from tests.engines.elastic.world import History, Process, World


@dataclass
class Estate:
    """What a process has of the server; `record` is what it knows to be decided, and has not applied yet.

    `found` are the decisions that it has heard, by slot and shard, `after` the memories that it has worked out;
    `promises` who has said that it has all of a slot's decisions.
    """

    holders: Holders
    memory: dict[int, tuple[Slot, History]] = field(default_factory=dict)
    record: Record | None = None
    found: dict[tuple[Slot, int], History] = field(default_factory=dict)
    after: dict[int, tuple[Slot, History]] = field(default_factory=dict)
    promises: dict[Slot, dict[int, bytes]] = field(default_factory=dict)
    confirmation: Confirmation | None = None

    def lacks(self, p: Process) -> frozenset[int]:
        has = {s for s, (slot, _) in self.memory.items() if slot == p.slot}
        return frozenset(held_by(self.holders, p.member.ticket)) - has


class ShardedWorld(World):
    """`board` has what was worked out for a slot and shard, `confirmed` what the register says of slots that were slow.

    `lost` counts memories that began anew. A process that nobody can tell what was applied stays where it is.
    """

    def __init__(self, num: int, quorum: int, shards: int) -> None:
        super().__init__(num, quorum)
        self.num_shards, self.lost = shards, 0
        self.saved_memories: dict[int, dict[int, History]] = {}
        self.board: dict[tuple[Slot, int], History] = {}
        self.confirmed: dict[Slot, Record] = {}
        holders, _ = arranged([set(self.processes)] * shards, self.processes)
        fresh = dict.fromkeys(range(shards), (Slot(), ()))
        self.estates = {t: Estate(holders, dict(fresh)) for t in self.processes}

    def agreement_of(self, p: Process) -> Agreement:
        estate = self.estates[p.member.ticket]
        own = Agreement(p.member.ticket, p.slot, p.view, self.quorum, holders=estate.holders)
        own.lacking(estate.lacks(p))
        return own

    def join(self, number: int) -> int:
        ticket = super().join(number)
        self.estates[ticket] = Estate(())
        return ticket

    def save(self, ticket: int) -> None:
        super().save(ticket)
        p, number = self.processes[ticket], self.processes[ticket].member.number
        if p.agreement is None and not p.fresh:
            memory = {s: history for s, (slot, history) in self.estates[ticket].memory.items() if slot == p.slot}
            self.saved_memories[number] = memory

    def restart(self) -> bool:
        if not super().restart():
            return False
        self.board.clear()
        self.confirmed.clear()
        found = {t: self.saved_memories[p.member.number] for t, p in self.processes.items() if p.view}
        valid = [{t for t, memory in found.items() if s in memory} for s in range(self.num_shards)]
        holders, moves = arranged(valid, found)
        for ticket, memory in found.items():
            p = self.processes[ticket]
            self.estates[ticket] = Estate(holders, {s: (p.slot, history) for s, history in memory.items()})
            self.found(p, Record(p.slot, Outcome.VOID, {}, p.view, holders=holders, moves=moves))
        return True

    def learn(self, ticket: int, donor: int) -> None:
        p, source = self.processes.get(ticket), self.processes.get(donor)
        if p is not None and source is not None and source.slot > p.slot and self.passed(p):
            p.agreement, p.view, self.estates[ticket].record = None, (), None
        if p is not None and not p.view and source is not None and source.view and (source.slot > p.slot or p.fresh):
            estate = self.estates[ticket]
            estate.holders, estate.memory, estate.record = self.estates[donor].holders, {}, None
        super().learn(ticket, donor)

    def passed(self, p: Process) -> bool:
        """Whether one that waits for decisions can see by the register that the others have gone on."""
        waits = self.estates[p.member.ticket].record is not None and p.member.ticket not in self.unheard
        gone_on = any(at in self.register for at in (p.slot, p.slot.after(True))) or p.slot in self.confirmed
        return waits and gone_on

    def cut(self, a: int, b: int) -> None:
        super().cut(a, b)
        for one, other in ((a, b), (b, a)):
            if one in self.processes and (own := self.estates[one].confirmation) is not None:
                own.lost(other)
                self.act(self.processes[one])

    def deliver(self, link: tuple[int, int]) -> None:
        estate = self.estates.get(link[1])
        if estate is not None and estate.confirmation is not None and link in self.links:
            estate.confirmation.speaks(link[0])
        event = self.links[link][0][1] if link in self.links else None
        if event is not None and event.__name__ == "answer" and link[1] in self.processes:
            event(self.agreement_of(self.processes[link[1]]))  # who has gone on still tells what was decided
        super().deliver(link)

    def event(self, ticket: int, event: Callable[[Agreement], None]) -> None:
        p = self.processes.get(ticket)
        if p is not None and self.estates[ticket].record is not None:
            self.say(p)
        super().event(ticket, event)

    def act(self, p: Process) -> None:
        if p.agreement is not None and self.estates[p.member.ticket].record is None:
            super().act(p)
        if p.agreement is not None and self.estates[p.member.ticket].record is not None:
            self.confirm(p)

    def finish(self, p: Process, record: Record) -> None:
        if record.outcome == Outcome.APPLY and record.has(p.member.ticket):
            assert p.agreement is not None
            estate, me = self.estates[p.member.ticket], p.member.ticket
            estate.record, estate.confirmation = record, Confirmation(p.agreement, record)
            for other in estate.confirmation.others:
                if other not in self.processes or self.is_broken(me, other):
                    estate.confirmation.lost(other)
        else:
            super().finish(p, record)

    def confirm(self, p: Process) -> None:
        """Work out what can be, tell it, and go on where it is known what becomes of the slot."""
        estate = self.estates[p.member.ticket]
        own, record = estate.confirmation, estate.record
        assert own is not None and record is not None and p.agreement is not None
        self.work_out(p, record)
        for peer, digest in estate.promises.get(record.slot, {}).items():
            own.says(peer, digest)
        missing = [s for s in range(self.num_shards) if (record.slot, s) not in estate.found]
        own.found(missing)
        if not missing and own.whole is None:
            own.complete(repr([estate.found[record.slot, s] for s in range(self.num_shards)]).encode())
            self.say(p)
        own.late |= p.agreement.late
        if own.slow and own._there is None:
            own.slowed()
            self.say(p)
        own.settled, own.desperate = p.agreement.impatient, p.agreement.desperate
        proposal = own.proposal() if p.member.ticket not in self.unheard else None
        if proposal is not None:
            own.answered(self.confirmed.setdefault(record.slot, proposal))
        if own.ready and own.outcome is not None:
            estate.record = estate.confirmation = None
            if own.outcome.applied:
                p.agreement = None
                self.apply(p, own.outcome)
            else:
                super().finish(p, own.outcome)

    def say(self, p: Process) -> None:
        """Tell all who stay which decisions are missing here, or that none is."""
        me, own = p.member.ticket, self.estates[p.member.ticket].confirmation
        assert own is not None
        for other in own.others:
            told = promising(self.estates, other, p.slot, me, own.whole) if own.whole else None
            self.send(p, other, told or self.asking(other, p.slot, me, own.missing))

    def asking(self, of: int, slot: Slot, by: int, missing: frozenset[int]) -> Callable[[Agreement], None]:
        def answer(agreement: Agreement) -> None:
            if (own := self.estates[of].confirmation) is not None and own.record.slot == slot:
                own.misses(by, missing)
            found, of_then = self.estates[of].found, replace(self.processes[of], slot=slot)
            for shard in missing:
                if (slot, shard) in found:
                    self.send(of_then, by, telling(self.estates, by, slot, shard, found[slot, shard]))

        return answer

    def work_out(self, p: Process, record: Record) -> None:
        estate, agreement = self.estates[p.member.ticket], p.agreement
        if agreement is None or any(agreement.held.get(a) != d for a, d in record.counted.items()):
            return
        for shard in set(held_by(estate.holders, p.member.ticket)) - estate.lacks(p) - estate.after.keys():
            after = (*estate.memory[shard][1], (record.slot.step, frozenset(record.counted)))
            known = self.board.setdefault((record.slot, shard), after)
            assert known == after, "the copies of a memory differ"
            estate.after[shard] = record.next, after
            estate.found[record.slot, shard] = after
            for other in agreement.members:
                if other != p.member.ticket:
                    self.send(p, other, telling(self.estates, other, record.slot, shard, after))

    def apply(self, p: Process, record: Record) -> None:
        estate = self.estates[p.member.ticket]
        estate.record = estate.confirmation = None
        if record.outcome == Outcome.VOID:
            estate.memory = {s: (record.next if at == p.slot else at, h) for s, (at, h) in estate.memory.items()}
        else:
            estate.memory |= estate.after
        estate.after = {}
        super().apply(p, record)
        if record.outcome == Outcome.APPLY:
            assert all(self.board[record.slot, s] == p.history for s in range(self.num_shards)), "a memory was stale"
        self.found(p, record)

    def found(self, p: Process, record: Record) -> None:
        """Take over who holds what before the slot that a process stands before."""
        estate, me = self.estates[p.member.ticket], p.member.ticket
        estate.holders = record.holders
        for shard, source in enumerate(sources(record.holders, record.moves)):
            if source is None:
                self.lost += 1
                estate.memory[shard] = p.slot, p.history
        estate.memory = {s: m for s, m in estate.memory.items() if s in held_by(record.holders, me)}
        for shard, ticket in record.moves:
            at, history = estate.memory.get(shard, (Slot(), ()))
            if sources(record.holders, record.moves)[shard] == me and at == p.slot:
                self.send(p, ticket, self.filling(ticket, shard, p.slot, history))

    def filling(self, ticket: int, shard: int, slot: Slot, history: History):  # type: ignore[no-untyped-def]  # an event
        def fill(agreement: Agreement) -> None:
            p, estate = self.processes[ticket], self.estates[ticket]
            if p.slot == slot and shard in estate.lacks(p):
                estate.memory[shard] = slot, history
                agreement.lacking(estate.lacks(p))

        return fill


def telling(
    estates: dict[int, Estate], to: int, slot: Slot, shard: int, history: History
) -> Callable[[Agreement], None]:
    """The decision on a shard, where it arrives."""
    return lambda _: estates[to].found.update({(slot, shard): history})


def promising(estates: dict[int, Estate], to: int, slot: Slot, by: int, digest: bytes) -> Callable[[Agreement], None]:
    """What a member says that has all decisions."""
    return lambda _: estates[to].promises.setdefault(slot, {}).update({by: digest})
