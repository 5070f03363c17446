"""One slot with the others: sends and receives for `Agreement`, which decides."""

import time
from collections.abc import Iterable

from gradvote.engines.elastic.agreement import Agreement, Forward, Propose, Tell
from gradvote.engines.elastic.frames import Frame, Kind, digest_of
from gradvote.engines.elastic.group import Group
from gradvote.engines.elastic.links import Arrived, Closed, Event, Opened
from gradvote.engines.elastic.records import Record, Slot, held_from, held_to_json, record_from
from gradvote.engines.elastic.timeouts import TooFewWorkers

IDLE = 0.25


class Round:
    """`run` gives the decision; None where the others have gone on without this process."""

    def __init__(self, group: Group, body: bytes) -> None:
        self.group, self.slot, self.me = group, group.slot, group.me.ticket
        self.bodies: dict[int, bytes | bytearray] = {self.me: body}
        self.digests = {self.me: digest_of(body)}
        self.agreement = Agreement(self.me, group.slot, tuple(group.members.values()), group.quorum)
        self.behind = False
        self._started = time.monotonic()
        self._slow_since: float | None = None

    def run(self) -> Record | None:
        """Until the slot is decided.

        Raises:
            TooFewWorkers: the group stayed too small for too long.
        """
        group, agreement = self.group, self.agreement
        agreement.ballot(self.me, self.digests[self.me])
        for ticket in group.members.keys() - group.mesh.links.keys() - {self.me}:
            agreement.lost(ticket)
        self._send_ballot(self._others)
        agreement.joining = group.joining
        for early in group.now_due():
            self._handle(early)
        while not self.behind and agreement.decision is None:
            self._act()
            if agreement.decision is None:
                self._hear_all()
                self._look_at_clock()
        group.tallies.slow += agreement.slow
        return agreement.decision

    def _hear_all(self) -> None:
        """Wait for an event, and take all that are here: who was stopped for long must not go by its clock first."""
        seconds = self._patience()
        for _ in range(self.group.inbox.qsize() + 1):
            event = self.group.take(seconds)
            if event is not None:
                self._handle(event)
            seconds = 0.0

    @property
    def _others(self) -> set[int]:
        return self.agreement.members.keys() - {self.me}

    def _send_ballot(self, to: Iterable[int]) -> None:
        self.group.send(to, Frame(Kind.BALLOT, self.me, self.slot, self.bodies[self.me], self.digests[self.me]))

    def _act(self) -> None:
        for action in self.agreement.actions():
            if isinstance(action, Tell):
                body = held_to_json(action.held, action.closed).encode()
                self.group.send(self._others, Frame(Kind.HELD, self.me, self.slot, body))
            elif isinstance(action, Forward):
                author = action.author
                frame = Frame(Kind.BALLOT, author, self.slot, self.bodies[author], self.digests[author])
                self.group.send([action.to], frame)
            elif isinstance(action, Propose):
                self._decide(self.group.register.decide(self.group.generation, action.record))

    def _decide(self, record: Record) -> None:
        frame = Frame(Kind.RECORD, self.me, self.slot, record.to_json().encode())
        self.group.send(self._others | {m.ticket for m in record.members}, frame)
        self.agreement.decided(record)

    def _handle(self, event: Event) -> None:
        ticket = event.link.peer.ticket
        if isinstance(event, Arrived) and event.frame.sound:
            self._hear(event)
        elif isinstance(event, Arrived):
            self._spoiled(event)
        elif isinstance(event, Closed) and ticket not in self.group.mesh.links:
            self.agreement.lost(ticket)
        elif isinstance(event, Opened) and ticket in self.agreement.members:
            self.agreement.found(ticket)
            self._send_ballot([ticket])

    def _hear(self, event: Arrived) -> None:
        kind, slot = event.frame.kind, event.frame.slot
        if kind == Kind.READY:
            self.agreement.joining = self.group.joining
        elif kind == Kind.OUTSIDE:
            self.behind |= slot > self.slot
        elif kind not in (Kind.BALLOT, Kind.HELD, Kind.RECORD):
            return
        elif slot > self.slot:
            self.group.keep_early(event)
            self.behind |= kind == Kind.RECORD and self._registered(slot) is not None
        elif slot < self.slot:
            self._hear_old(event)
        elif kind == Kind.BALLOT:
            self._hear_ballot(event)
        else:
            self._hear_text(event)

    def _hear_old(self, event: Arrived) -> None:
        if event.frame.kind == Kind.HELD:
            self.group.inform(event.link, event.frame.slot)
        elif event.frame.kind == Kind.BALLOT and event.frame.author == event.link.peer.ticket:
            self.group.stale(event)

    def _hear_ballot(self, event: Arrived) -> None:
        frame, group = event.frame, self.group
        member = self.agreement.members.get(frame.author)
        if member is None or frame.author in self.bodies:
            return
        if len(frame.body) != group.replica.ballot_bytes(self.slot, member.number):
            expected = group.replica.ballot_bytes(self.slot, member.number)
            group.fault(event, "malformed", f"has {len(frame.body)} bytes instead of {expected}")
            self._spoiled(event)
            return
        self.bodies[frame.author], self.digests[frame.author] = frame.body, frame.digest
        self.agreement.ballot(frame.author, frame.digest)
        group.tallies.arrived(member.number, event.at - self._started)

    def _spoiled(self, event: Arrived) -> None:
        frame = event.frame
        if frame.kind == Kind.BALLOT and frame.slot == self.slot and frame.author == event.link.peer.ticket:
            self.agreement.spoiled(frame.author)

    def _hear_text(self, event: Arrived) -> None:
        try:
            if event.frame.kind == Kind.HELD:
                self.agreement.tells(event.link.peer.ticket, *held_from(bytes(event.frame.body)))
            else:
                self._hear_record(record_from(bytes(event.frame.body)))
        except ValueError as error:
            self.group.fault(event, "malformed", f"cannot be read: {error}")

    def _hear_record(self, record: Record) -> None:
        """A peer is not believed: the register has the record, or this member knows all of it itself."""
        known = self._registered(self.slot)
        if known is not None:
            self.agreement.decided(known)
        elif record.slot == self.slot and self.agreement.full and dict(record.counted) == self.agreement.held:
            self.agreement.decided(record)

    def _registered(self, slot: Slot) -> Record | None:
        return self.group.register.decision(self.group.generation, slot)

    def _marks(self) -> list[float]:
        t = self.group.timeouts
        marks = [self._started + t.deadline, self._started + t.timeout]
        return marks if self._slow_since is None else [*marks, *(self._slow_since + k * t.grace for k in (1, 3))]

    def _patience(self) -> float:
        now = time.monotonic()
        return min([mark - now for mark in self._marks() if mark > now] + [IDLE])

    def _look_at_clock(self) -> None:
        now, t, agreement = time.monotonic(), self.group.timeouts, self.agreement
        if now >= self._started + t.deadline and not agreement.late:
            agreement.expired()
        if agreement.slow and self._slow_since is None:
            self._slow_since = now
        if self._slow_since is not None:
            agreement.settled = now >= self._slow_since + t.grace
            agreement.impatient = now >= self._slow_since + 3 * t.grace
        if now >= self._started + t.timeout:
            raise TooFewWorkers(
                f"Step {self.slot.step} could not be decided within {t.timeout:g} s: {len(agreement.held)} ballots of "
                f"{len(agreement.members)} members are here, min_workers is {self.group.quorum}. Start workers again."
            )
