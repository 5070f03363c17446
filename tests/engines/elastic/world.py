"""A world of members without clocks and sockets: messages may be late or lost, processes may stop, die and come.

What a member is worth is its history: the ballots that counted in each step. It stands for the parameters.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.agreement import Agreement, Forward, Propose, Tell
from gradvote.engines.elastic.consensus.members import Member, Proof
from gradvote.engines.elastic.consensus.records import Outcome, Record

History = tuple[tuple[int, frozenset[int]], ...]


@dataclass
class Process:
    """A worker; `agreement` is None while it only learns. A bit of `faces` is set for each ticket that it tells another
    ballot than the rest in its next vote. One with `words` says to each ticket, bit by bit, which of both it holds, and
    asks the register for nothing. `proofs` has those who lied, by number.
    """

    member: Member
    slot: Slot = field(default_factory=Slot)
    history: History = ()
    view: tuple[Member, ...] = ()
    fresh: bool = False
    agreement: Agreement | None = None
    faces: int = 0
    words: int = 0
    proofs: dict[int, Proof] = field(default_factory=dict)
    early: list[tuple[Slot, Callable[[Agreement], None]]] = field(default_factory=list)


class World:
    """Members, the links between them (first in, first out, until they break), and the register, which those that are
    `unheard` do not reach. What those that are `dumb` send is lost, and
    what is sent to those that are `deaf`.
    """

    def __init__(self, num: int, quorum: int, signed: bool = False) -> None:
        self.quorum, self.num_started, self.signed = quorum, num, signed
        founders = tuple(Member(t, t) for t in range(1, num + 1))
        self.processes = {m.ticket: Process(m, view=founders) for m in founders}
        self.links: dict[tuple[int, int], deque[tuple[Slot, Callable[[Agreement], None]]]] = {}
        self.broken: set[frozenset[int]] = set()
        self.register: dict[Slot, Record] = {}
        self.entries: dict[Slot, tuple[Record, History]] = {}
        self.saved: dict[int, Process] = {}
        self.unheard, self.dumb, self.deaf = set[int](), set[int](), set[int]()

    def vote(self, ticket: int) -> None:
        """A member begins its slot with its ballot."""
        p = self.processes[ticket]
        if p.agreement is None and any(m.ticket == ticket for m in p.view):
            p.agreement = self.agreement_of(p)
            p.agreement.ballot(ticket, self.digest(ticket, p.slot, 0))
            for proof in p.proofs.values():
                p.agreement.convict(proof)
            for other in p.view:
                digest = self.digest(ticket, p.slot, p.faces >> other.ticket & 1)
                if other.ticket != ticket:
                    self.send(p, other.ticket, lambda a, digest=digest: a.ballot(ticket, digest))  # type: ignore[misc]
                if other.ticket not in self.processes or self.is_broken(ticket, other.ticket):
                    p.agreement.lost(other.ticket)
            for slot, event in p.early:
                if slot == p.slot:
                    event(p.agreement)
            p.early = [(slot, event) for slot, event in p.early if slot > p.slot]
            p.faces = 0
            self.act(p)

    def agreement_of(self, p: Process) -> Agreement:
        return Agreement(p.member.ticket, p.slot, p.view, self.quorum, 0 if self.signed else None)

    def digest(self, ticket: int, slot: Slot, face: int) -> bytes:
        return f"{ticket}/{slot.step}/{slot.attempt}/{face}".encode()

    def told(self, p: Process, tell: Tell, to: int) -> Tell:
        """The list that a member sends to another one."""
        me = p.member.ticket
        if not p.words or me not in tell.held:
            return tell
        return replace(tell, held={**tell.held, me: self.digest(me, p.slot, p.words >> to & 1)})

    def is_broken(self, a: int, b: int) -> bool:
        return frozenset((a, b)) in self.broken

    def send(self, p: Process, to: int, event: Callable[[Agreement], None]) -> None:
        lost = self.is_broken(p.member.ticket, to) or p.member.ticket in self.dumb or to in self.deaf
        if to in self.processes and not lost:
            self.links.setdefault((p.member.ticket, to), deque()).append((p.slot, event))

    def deliver(self, link: tuple[int, int]) -> None:
        """The next message of a link arrives."""
        if link not in self.links:
            return
        slot, event = self.links[link].popleft()
        if not self.links[link]:
            del self.links[link]
        p = self.processes.get(link[1])
        if p is not None and slot >= p.slot:
            if p.agreement is None or slot > p.slot:
                p.early.append((slot, event))
            else:
                event(p.agreement)
                self.act(p)

    def lose(self, link: tuple[int, int]) -> None:
        """The next message of a link is a ballot altered on its way, or nothing happens."""
        queue = self.links.get(link)
        if queue and queue[0][1].__code__.co_names == ("ballot",):
            slot, _ = queue.popleft()
            if not queue:
                del self.links[link]
            p = self.processes.get(link[1])
            if p is not None and p.slot == slot:
                self.event(link[1], lambda agreement: agreement.spoiled(link[0]))

    def cut(self, a: int, b: int) -> None:
        """The link between two processes breaks for good."""
        self.broken.add(frozenset((a, b)))
        for pair in ((a, b), (b, a)):
            self.links.pop(pair, None)
            self.event(pair[0], lambda agreement, peer=pair[1]: agreement.lost(peer))  # type: ignore[misc]

    def kill(self, ticket: int) -> None:
        """A process dies. What it has sent may still arrive, or not: the others may cut before they deliver."""
        del self.processes[ticket]
        for other in list(self.processes):
            self.cut(ticket, other)

    def leave(self, ticket: int) -> None:
        """A process ends between two steps, as asked; nothing happens in the middle of one."""
        if self.processes[ticket].agreement is None:
            self.kill(ticket)

    def save(self, ticket: int) -> None:
        """A worker writes its checkpoint, between two steps of its own."""
        p = self.processes[ticket]
        if p.agreement is None and not p.fresh:
            self.saved[p.member.number] = replace(p, early=[])

    def restart(self) -> bool:
        """All die, and begin again from their checkpoints: those with the newest one found a group, others learn."""
        if len(self.saved) < self.quorum:
            return False
        best = max(self.saved.values(), key=lambda p: p.slot.step)
        alike = [p for p in self.saved.values() if (p.slot.step, p.history) == (best.slot.step, best.history)]
        if len(alike) < self.quorum:
            return False
        for state in (self.processes, self.links, self.broken, self.register, self.entries):
            state.clear()
        founders = tuple(Member(self.num_started + 1 + i, p.member.number) for i, p in enumerate(alike))
        for member in founders:
            slot, history = Slot(best.slot.step), best.history
            self.processes[member.ticket] = Process(member, slot, history, founders, proofs=dict(best.proofs))
        self.num_started += len(founders)
        for number in self.saved.keys() - {p.member.number for p in alike}:
            self.join(number)
        return True

    def event(self, ticket: int, event: Callable[[Agreement], None]) -> None:
        p = self.processes.get(ticket)
        if p is not None and p.agreement is not None:
            event(p.agreement)
            self.act(p)

    def act(self, p: Process) -> None:
        """Carry out a member's actions, and go on to the next slot where this one is decided."""
        assert p.agreement is not None
        for action in list(p.agreement.actions()):
            if isinstance(action, Tell):
                for other in p.view:
                    if other.ticket != p.member.ticket:
                        self.send(p, other.ticket, hearing(p.member.ticket, self.told(p, action, other.ticket)))
            elif isinstance(action, Forward):
                author, digest = action.author, p.agreement.held[action.author]
                self.send(p, action.to, lambda a: a.ballot(author, digest))  # noqa: B023  # as above
            elif isinstance(action, Propose) and not p.words and p.member.ticket not in self.unheard:
                p.agreement.decided(self.register.setdefault(action.record.slot, action.record))
        if p.agreement.decision is not None:
            self.finish(p, p.agreement.decision)

    def finish(self, p: Process, record: Record) -> None:
        assert p.agreement is not None and record.slot == p.slot and record.outcome != Outcome.STOP
        holds = record.outcome == Outcome.VOID or all(p.agreement.held.get(a) == d for a, d in record.counted.items())
        assert holds or not record.has(p.member.ticket) or len(record.members) == len(p.view), "a member lacks a ballot"
        known = (*p.agreement.proofs.values(), *record.proofs)
        p.proofs |= {proof.author.number: proof for proof in known}
        p.agreement = None
        if p.member.number in record.liars:
            return self.kill(p.member.ticket)
        if record.has(p.member.ticket) and holds and not p.words:
            self.apply(p, record)
        else:
            p.view = ()
        return None

    def apply(self, p: Process, record: Record) -> None:
        if record.outcome == Outcome.APPLY:
            assert len(record.counted) >= self.quorum
            p.history = (*p.history, (record.slot.step, frozenset(record.counted)))
        p.view = record.members
        self.entries.setdefault(record.slot, (record, p.history))
        assert self.entries[record.slot] == (record, p.history), "two members went different ways"
        p.slot = record.next

    def learn(self, ticket: int, donor: int) -> None:
        """A process that is no member takes the state of one ahead, or the next decision; it asks to be let in."""
        p, source = self.processes.get(ticket), self.processes.get(donor)
        if p is None or p.view or source is None or not source.view:
            return
        if source.slot > p.slot or p.fresh:
            p.slot, p.history, p.fresh = source.slot, source.history, False
            p.proofs |= source.proofs
            p.view = source.view if any(m.ticket == ticket for m in source.view) else ()
        for other in self.processes.values():
            admits = p.member.number not in other.proofs
            if not p.view and other.agreement is not None and other.slot == p.slot and admits:
                other.agreement.joining = (p.member,)
                self.act(other)
        if not p.view and (entry := self.entries.get(p.slot)) is not None and entry[0].has(ticket):
            self.apply(p, entry[0])

    def join(self, number: int) -> int:
        """A new process; it has to learn first."""
        self.num_started += 1
        member = Member(self.num_started, number)
        self.processes[member.ticket] = Process(member, fresh=True)
        return member.ticket


def hearing(teller: int, tell: Tell) -> Callable[[Agreement], None]:
    """What becomes of a list where it arrives."""

    def hear(agreement: Agreement) -> None:
        for proof in tell.proofs:
            agreement.convict(proof)
        agreement.tells(teller, tell.held, tell.closed)

    return hear
