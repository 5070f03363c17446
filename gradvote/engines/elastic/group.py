"""What a process knows of the others, in a round and between two: links, members, the way so far."""

import queue
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from gradvote.engines.elastic import moving, teaching
from gradvote.engines.elastic.frames import Frame, Kind
from gradvote.engines.elastic.holders import Holders, Moves
from gradvote.engines.elastic.links import Arrived, Closed, Event, Link
from gradvote.engines.elastic.mesh import Mesh
from gradvote.engines.elastic.parcels import Decided, Entry
from gradvote.engines.elastic.records import Member, Outcome, Proof, Slot
from gradvote.engines.elastic.register import Register
from gradvote.engines.elastic.replica import Replica
from gradvote.engines.elastic.seals import Seals, Unsigned, convicts
from gradvote.engines.elastic.sharding import Sharding
from gradvote.engines.elastic.tallies import Tallies
from gradvote.engines.elastic.teaching import FRESH, reached_from_bytes
from gradvote.engines.elastic.timeouts import Excluded, Replaced, RunEnded, Timeouts

LOGGED, LOGGED_BYTES = 32, 1 << 26
LAG, AHEAD, KEPT_EARLY = 8, 16, 128
PATIENCE = 1.0
NOTE = 300


class Group:
    """One process among others. `slot` is the round it is about to take part in, `members` those of that round.

    `leaving`: it was asked to stop, and waits for nobody who may stay away.
    """

    def __init__(
        self,
        replica: Replica,
        register: Register,
        mesh: Mesh,
        inbox: queue.SimpleQueue[Event],
        quorum: int,
        t: Timeouts,
        seals: Seals | None = None,
        sharding: Sharding | None = None,
    ) -> None:
        self.sharding = sharding
        self.replica, self.register, self.mesh, self.quorum, self.timeouts = replica, register, mesh, quorum, t
        self.inbox, self.tallies, self.seals = inbox, Tallies(), seals or Unsigned()
        self.me, self.slot, self.generation = Member(0, replica.number), Slot(), 0
        self.members: dict[int, Member] = {}
        self.inside = self.leaving = False
        self.left: set[int] = set()
        self.reached: dict[int, Slot] = {}
        self.proofs: dict[int, Proof] = {}
        self.suspects: frozenset[int] = frozenset()
        self.early: list[Arrived] = []
        self.log: deque[Entry | Decided] = deque()
        self.counted: dict[int, Slot] = {}
        self._learners: set[int] = set()
        self._ready: dict[int, tuple[Slot, set[int]]] = {}

    def enter(
        self,
        generation: int,
        slot: Slot,
        members: Iterable[Member],
        counted: dict[int, Slot],
        holders: Holders = (),
        moves: Moves = (),
    ) -> None:
        """Stand before a slot."""
        self.generation, self.slot, self.counted = generation, slot, counted
        self.log.clear()
        self._stay(tuple(members))
        moving.move_on(self, slot, slot, holders, moves, True)

    def advance(self, entry: Entry | Decided) -> None:
        """Go on to the next slot, and take those along who learn from here."""
        record = entry.record
        self.convict(record.proofs)
        self._count(entry)
        self.log.append(replace(entry, memories={}) if isinstance(entry, Decided) else entry)
        while len(self.log) > LOGGED or (len(self.log) > 1 and sum(e.size for e in self.log) > LOGGED_BYTES):
            self.log.popleft()
        self.slot = record.next
        self._stay(record.members)
        moving.move_on(self, record.slot, record.next, record.holders, record.moves, record.outcome == Outcome.APPLY)
        moving.give(self)
        frame = Frame(Kind.ENTRY, self.me.ticket, record.slot, entry.pack()) if self._learners else None
        for ticket in list(self._learners):
            if frame is not None and ticket in self.mesh.links:
                self.mesh.links[ticket].send(frame)
            if record.has(ticket):
                self._learners.discard(ticket)

    def take(self, seconds: float) -> Event | None:
        """The next event, after what is done with it in any phase; None where there is none for so long.

        A frame that is not `sound` is counted, and says no more than who sent it.
        """
        try:
            event = self.inbox.get(timeout=seconds) if seconds > 0 else self.inbox.get_nowait()
        except queue.Empty:
            return None
        if isinstance(event, Arrived) and event.frame.sound:
            ticket = event.link.peer.ticket
            self.reached[ticket] = max(event.frame.slot, self.reached.get(ticket, event.frame.slot))
        if isinstance(event, Closed):
            self._closed(event)
        elif isinstance(event, Arrived):
            if not event.frame.sound:
                self.fault(event, "corrupted", "was altered on its way (its checksum does not fit)")
            else:
                self._serve(event.link, event.frame)
        return event

    def events(self, seconds: float) -> Iterator[Event]:
        """Wait for an event, and take all that are here: who was stopped for long must not go by its clock first."""
        for _ in range(self.inbox.qsize() + 1):
            event = self.take(seconds)
            if event is not None:
                yield event
            seconds = 0.0

    def send(self, to: Iterable[int], frame: Frame) -> None:
        """Send a frame to those of these processes that are connected."""
        for ticket in to:
            link = self.mesh.links.get(ticket)
            if link is not None:
                link.send(frame)

    def fault(self, event: Arrived, what: str, text: str) -> None:
        """Count, and say, that something a worker sent was wrong."""
        number = event.link.peer.number
        self.tallies.add(number, what)
        self.tallies.note(self.slot.step, f"a {event.frame.kind.name.lower()} from worker {number} {text[:NOTE]}")

    @property
    def lacks(self) -> frozenset[int]:
        """The shards held here whose memory has not arrived."""
        return self.sharding.lacks(self.me.ticket, self.slot) if self.sharding is not None else frozenset()

    def body_bytes(self, slot: Slot, number: int) -> int:
        """The length of a worker's ballot as it travels."""
        return self.replica.ballot_bytes(slot, number) + self.seals.extra_bytes

    def convict(self, proofs: Iterable[Proof]) -> bool:
        """Take note of those who signed two ballots; False at the first proof that is none, the rest is not looked at.

        Raises:
            Excluded: it was this worker.
        """
        for proof in proofs:
            number = proof.author.number
            if number in self.proofs:
                continue
            if not convicts(self.seals, proof):
                return False
            if number == self.me.number:
                raise Excluded(
                    f"{proof} (attempt {proof.slot.attempt}): that is this worker. The run goes on without it, for "
                    "good. Another process may use its key, or its machine is at fault: look into both."
                )
            self.proofs[number] = proof
            self.tallies.add(number, "lied")
            self.tallies.note(self.slot.step, f"{proof}; it is left out for good")
        return True

    def keep(self, event: Arrived) -> None:
        """Keep a frame while this process does not know yet which slot it will begin with; the latest of each peer."""
        if event.frame.sound:
            kept = self._early_of(event)
            oldest = kept[0] if len(kept) >= KEPT_EARLY else None
            self.early = [*(e for e in self.early if e is not oldest), event]

    def keep_early(self, event: Arrived) -> None:
        """Keep a frame of a coming slot until then."""
        if event.frame.slot.step > self.slot.step + AHEAD or len(self._early_of(event)) >= KEPT_EARLY:
            self.fault(event, "stale", f"is for step {event.frame.slot.step}, far ahead of step {self.slot.step}")
        else:
            self.early.append(event)

    def now_due(self) -> list[Arrived]:
        """The frames kept for this slot; older ones are let go."""
        due = [e for e in self.early if e.frame.slot == self.slot]
        self.early = [e for e in self.early if e.frame.slot > self.slot]
        return due

    def stale(self, event: Arrived) -> None:
        """A ballot for a slot that is past: late, or sent again."""
        frame = event.frame
        if any(e.record.slot == frame.slot and frame.author in e.record.counted for e in self.log):
            self.fault(event, "replayed", f"repeats that of step {frame.slot.step}, which has counted already")
        else:
            self.tallies.add(event.link.peer.number, "stale")

    def entry(self, slot: Slot) -> Entry | Decided | None:
        """What became of a slot of the past, as long as it is remembered."""
        return next((entry for entry in self.log if entry.record.slot == slot), None)

    def inform(self, link: Link, slot: Slot) -> None:
        """Tell a process that is behind what became of its slot, or that it must learn."""
        entry = self.entry(slot)
        if entry is not None:
            link.send(Frame(Kind.RECORD, self.me.ticket, slot, entry.record.to_json().encode()))
            return
        link.send(Frame(Kind.OUTSIDE, self.me.ticket, self.slot, b"member" if self.inside else b""))

    def check_not_ended(self, waited: float) -> None:
        """Raise RunEnded where the others have finished: called where none of them can be learned from."""
        end = self.register.ended() if waited > PATIENCE else None
        if end is not None and self.slot.step < end:
            raise RunEnded(
                f"The run ended with step {end} while worker {self.me.number} was away. The final state is what the "
                "others have saved."
            )

    @property
    def joining(self) -> tuple[Member, ...]:
        """The processes that can be let in now: they know nearly all, and are connected to all that are here."""
        links = dict(self.mesh.links)
        here = (self.members.keys() & links.keys()) | {self.me.ticket}
        asking = {t: ask for t, ask in self._ready.items() if t in links and t not in self.members}
        near = (t for t, (slot, reached) in asking.items() if slot.step >= self.slot.step - LAG and here <= reached)
        return tuple(links[t].peer for t in sorted(near) if self.admits(links[t].peer.number))

    def admits(self, number: int) -> bool:
        """Whether a worker may be a member: it has not been convicted, and its signature could be checked."""
        return number not in self.proofs and self.seals.knows(number)

    @property
    def num_waiting(self) -> int:
        """Connected processes that are no members, and may still learn from here."""
        return sum(t not in self.members and t not in self.left for t in list(self.mesh.links))

    def _early_of(self, event: Arrived) -> list[Arrived]:
        """The frames of this peer that wait."""
        return [e for e in self.early if e.link.peer == event.link.peer]

    def _stay(self, members: tuple[Member, ...]) -> None:
        self.members = {m.ticket: m for m in members}
        self.inside = self.me.ticket in self.members
        self._ready = {t: ask for t, ask in self._ready.items() if t not in self.members}
        newer = [m for m in members if m.number == self.me.number and m.ticket > self.me.ticket]
        if newer:
            raise Replaced(f"Another process is worker {self.me.number} now; this one was gone too long and must end.")

    def _count(self, entry: Entry | Decided) -> None:
        record, tallies = entry.record, self.tallies
        applied = record.outcome == Outcome.APPLY
        tallies.steps, tallies.retried = tallies.steps + applied, tallies.retried + (not applied)
        for ticket, member in self.members.items():
            if ticket in record.counted:
                self.counted[ticket] = record.slot
            if applied:
                tallies.add(member.number, "counted" if ticket in record.counted else "missed")
            if not record.has(ticket):
                tallies.add(member.number, "excluded")
                reason = next((str(r) for r in record.reasons if r.number == member.number), None)
                left = None if reason and ticket not in self.left else f"worker {member.number} has left"
                tallies.note(record.slot.step, left or reason or "")
        for member in record.members:
            if member.ticket not in self.members:
                tallies.add(member.number, "joined")
                tallies.note(record.slot.step, f"worker {member.number} joined")

    def _closed(self, event: Closed) -> None:
        ticket = event.link.peer.ticket
        self.mesh.closed(event.link)
        if ticket not in self.mesh.links:
            self._learners.discard(ticket)
            self._ready.pop(ticket, None)
            self.reached.pop(ticket, None)
        if event.damaged:
            self.tallies.add(event.link.peer.number, "corrupted")
            self.tallies.note(self.slot.step, f"the connection to worker {event.link.peer.number}: {event.damaged}")

    def _serve(self, link: Link, frame: Frame) -> None:
        if frame.kind == Kind.BYE:
            self.left.add(link.peer.ticket)
        elif frame.kind == Kind.READY:
            number = link.peer.number
            if link.peer.ticket not in self._ready and not self.seals.knows(number):
                self.tallies.note(self.slot.step, f"worker {number} cannot join: its public key is not known here")
            self._ready[link.peer.ticket] = frame.slot, reached_from_bytes(frame.body)
        elif frame.kind == Kind.PULL and not self.inside:
            link.send(Frame(Kind.OUTSIDE, self.me.ticket, self.slot))
        elif frame.kind == Kind.PULL:
            self._learners.add(link.peer.ticket)
            teaching.teach(self, link, None if bytes(frame.body) == FRESH else frame.slot)
        elif frame.slot < self.slot and frame.kind == Kind.WANT:
            moving.repeat(self, link, frame)
        elif frame.slot < self.slot and frame.kind in (Kind.DECISION, Kind.DIGEST):
            moving.compare(self, link, frame)
