"""The world of `world`, with the server in shards: what a memory is worth is the history that it was made of."""

from dataclasses import dataclass, field

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.agreement import Agreement
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.shard_assignment import Holders, arranged, held_by, sources
from tests.engines.elastic.world import History, Process, World


@dataclass
class Estate:
    """What a process has of the server; `record` is what it knows to be decided, and has not applied yet."""

    holders: Holders
    memory: dict[int, tuple[Slot, History]] = field(default_factory=dict)
    record: Record | None = None

    def lacks(self, p: Process) -> frozenset[int]:
        has = {s for s, (slot, _) in self.memory.items() if slot == p.slot}
        return frozenset(held_by(self.holders, p.member.ticket)) - has


class ShardedWorld(World):
    """`board` has what was worked out for a slot and shard; a decision is heard by all who are left.

    `lost` counts memories that began anew. A process whose shard nobody can decide stays where it is.
    """

    def __init__(self, num: int, quorum: int, shards: int) -> None:
        super().__init__(num, quorum)
        self.num_shards, self.lost = shards, 0
        self.saved_memories: dict[int, dict[int, History]] = {}
        self.board: dict[tuple[Slot, int], History] = {}
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
        if p is not None and not p.view and source is not None and source.view and (source.slot > p.slot or p.fresh):
            estate = self.estates[ticket]
            estate.holders, estate.memory, estate.record = self.estates[donor].holders, {}, None
        super().learn(ticket, donor)

    def act(self, p: Process) -> None:
        if self.estates[p.member.ticket].record is None:
            super().act(p)
        self.deliver_all()

    def finish(self, p: Process, record: Record) -> None:
        if record.outcome == Outcome.APPLY and record.has(p.member.ticket):
            self.estates[p.member.ticket].record = record
        else:
            super().finish(p, record)

    def deliver_all(self) -> None:
        """Everyone works out what it can, and applies what is known."""
        for p in list(self.processes.values()):
            self.work_out(p)
        for p in list(self.processes.values()):
            record = self.estates[p.member.ticket].record
            if record is not None and all((record.slot, s) in self.board for s in range(self.num_shards)):
                p.agreement = None
                self.apply(p, record)

    def work_out(self, p: Process) -> None:
        estate = self.estates[p.member.ticket]
        record, agreement = estate.record, p.agreement
        if record is None or agreement is None or any(agreement.held.get(a) != d for a, d in record.counted.items()):
            return
        for shard in set(held_by(estate.holders, p.member.ticket)) - estate.lacks(p):
            after = (*estate.memory[shard][1], (record.slot.step, frozenset(record.counted)))
            assert self.board.setdefault((record.slot, shard), after) == after, "the copies of a memory differ"
            estate.memory[shard] = record.next, after

    def apply(self, p: Process, record: Record) -> None:
        estate = self.estates[p.member.ticket]
        estate.record = None
        if record.outcome == Outcome.VOID:
            estate.memory = {s: (record.next if at == p.slot else at, h) for s, (at, h) in estate.memory.items()}
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
