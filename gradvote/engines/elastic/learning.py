"""Catching up with a group that has gone on: missed decisions are replayed, or a member's state is pulled."""

import time
from collections.abc import Callable

from gradvote.engines.elastic.ballots import Ballot
from gradvote.engines.elastic.frames import Frame, Kind
from gradvote.engines.elastic.group import Group
from gradvote.engines.elastic.links import Arrived, Closed, Event, Link, Opened
from gradvote.engines.elastic.parcels import Decided, Entry, Parcel, decided_from, entry_from, parcel_from
from gradvote.engines.elastic.records import Outcome
from gradvote.engines.elastic.teaching import FRESH, reached_to_bytes
from gradvote.engines.elastic.timeouts import TooFewWorkers

PAUSE = 0.05
ANY_LENGTH = 1 << 40
VOTES = (Kind.BALLOT, Kind.HELD, Kind.RECORD, Kind.DECISION, Kind.DIGEST, Kind.WANT, Kind.MEMORY)


class Learner:
    """A process that is no member; `fresh` where its own state is of no use. `pending` is a ballot of unknown fate."""

    def __init__(self, group: Group, fresh: bool, pending: Ballot | None = None, until: int | None = None) -> None:
        self.group, self.fresh, self.pending, self.until = group, fresh, pending, until
        self._teacher: Link | None = None
        self._asked_at = 0.0
        self._refused: set[int] = set()

    def run(self, founded: Callable[[], bool] | None = None) -> bool:
        """Until this process is a member, or has seen the last step.

        With `founded` (is this process a founder by now?) it gives up where nobody is a member, or where it is one; and
        always where this process was asked to stop.

        Raises:
            TooFewWorkers: no member could be reached for too long.
        """
        started = time.monotonic()
        self.group.inside = False
        while not self._done():
            if self.group.leaving:
                return False
            self._ask(founded is not None)
            if founded is not None and self._nobody():
                return False
            if time.monotonic() - started > self.group.timeouts.timeout:
                raise TooFewWorkers(self._alone())
            if not self.group.mesh.links:
                self.group.check_not_ended(time.monotonic() - started)
            event = self.group.take(PAUSE)
            if founded is not None and founded():
                if isinstance(event, Arrived) and event.frame.kind in VOTES:
                    self.group.keep(event)  # other founders may have begun
                return False
            if event is not None:
                self._handle(event)
        return True

    def _done(self) -> bool:
        at_end = self.until is not None and self.group.slot.step >= self.until
        return not self.fresh and (self.group.inside or at_end)

    def _alone(self) -> str:
        return (
            f"Worker {self.group.me.number} found no member of the run to learn from within "
            f"{self.group.timeouts.timeout:g} s, or was not let in. Are the others alive, on the same network, and is "
            "its public key known to them, if ballots are signed?"
        )

    def _nobody(self) -> bool:
        return self.fresh and self._teacher is None and self._refused >= self.group.mesh.links.keys()

    def _ask(self, founding: bool) -> None:
        links, now = self.group.mesh.links, time.monotonic()
        silent = now - self._asked_at > self.group.timeouts.deadline + self.group.timeouts.grace
        if self._teacher is not None and links.get(self._teacher.peer.ticket) is self._teacher and not silent:
            return
        last = self._teacher.peer.ticket if self._teacher is not None else 0
        self._teacher = None
        ready = [t for t in sorted(links) if t not in self._refused]
        if not ready:
            if now - self._asked_at > PAUSE and not founding:
                self._refused.clear()
            return
        link = links.get(min((t for t in ready if t > last), default=ready[0]))
        if link is not None:
            self._teacher, self._asked_at = link, now
            link.limits.update({Kind.STATE: ANY_LENGTH, Kind.ENTRY: ANY_LENGTH})
            link.send(Frame(Kind.PULL, self.group.me.ticket, self.group.slot, FRESH if self.fresh else b""))

    def _handle(self, event: Event) -> None:
        if isinstance(event, Opened):
            self._refused.discard(event.link.peer.ticket)
            self._tell()
        elif isinstance(event, Closed):
            self._refused.discard(event.link.peer.ticket)
        elif isinstance(event, Arrived) and event.frame.sound:
            self._hear(event)

    def _hear(self, event: Arrived) -> None:
        frame, link = event.frame, event.link
        if frame.kind == Kind.OUTSIDE and link is self._teacher:
            self._refused.add(link.peer.ticket)
            self._teacher = None
        elif frame.kind in (Kind.STATE, Kind.ENTRY):
            self._asked_at = time.monotonic()
            try:
                self._learn(frame)
            except ValueError as error:
                self.group.fault(event, "malformed", f"cannot be used: {error}")
                self._refused.add(link.peer.ticket)
                self._teacher = None
        elif frame.kind in VOTES:
            self.group.keep(event)

    def _learn(self, frame: Frame) -> None:
        if frame.kind == Kind.STATE:
            self._restore(parcel_from(frame.body))
        elif not self.fresh and frame.slot == self.group.slot:
            self.replay(self._entry(frame))
        elif frame.slot > self.group.slot:
            self._teacher = None

    def _entry(self, frame: Frame) -> Entry | Decided:
        sharding, seals = self.group.sharding, self.group.seals
        entry = entry_from(frame.body, seals.name) if sharding is None else decided_from(frame.body)
        record, num_bodies = entry.record, len(entry.bodies if isinstance(entry, Entry) else entry.decisions)
        if record.slot != frame.slot or (record.outcome == Outcome.APPLY) != bool(num_bodies):
            raise ValueError("An entry is of another slot, or its ballots are not those of its outcome.")
        if record.outcome == Outcome.STOP:
            raise ValueError("An entry ends the run, which nobody goes on from.")
        if isinstance(entry, Entry):
            self._check_ballots(entry)
        elif sharding is not None:
            sharding.check_holders(record.holders, record.moves, (m.ticket for m in record.members))
            if num_bodies:
                sharding.check(record.slot, entry.decisions)
        return entry

    def _check_ballots(self, entry: Entry) -> None:
        group, members, slot = self.group, self.group.members, entry.record.slot
        for ticket, body in entry.bodies.items():
            if ticket not in members or len(body) != group.body_bytes(slot, members[ticket].number):
                raise ValueError(f"An entry has no ballot of a member where it counts that of process {ticket}.")

    def _restore(self, parcel: Parcel) -> None:
        if not self.fresh and parcel.slot <= self.group.slot:
            return
        sharding = self.group.sharding
        if sharding is not None:
            sharding.check_holders(parcel.holders, parcel.moves, (m.ticket for m in parcel.members))
        self.group.convict(parcel.proofs)
        self.group.replica.restore(parcel.state)
        if self.fresh:
            self.group.replica.forget()
        if self.pending is not None:
            counted = parcel.counted.get(self.group.me.ticket) == self.pending.slot
            self.group.replica.keep(self.pending, counted)
        self.fresh, self.pending = False, None
        if sharding is not None:
            sharding.memories, sharding.history = {}, parcel.history
        about = parcel.generation, parcel.slot, parcel.members, dict(parcel.counted)
        self.group.enter(*about, parcel.holders, parcel.moves)
        self._tell()

    def replay(self, entry: Entry | Decided) -> None:
        """Apply a decided slot."""
        record, group = entry.record, self.group
        if self.pending is not None and self.pending.slot <= record.slot:
            group.replica.keep(self.pending, self.pending.slot == record.slot and group.me.ticket in record.counted)
            self.pending = None
        if isinstance(entry, Decided) and record.outcome == Outcome.APPLY:
            assert group.sharding is not None
            group.sharding.follow(record.slot, entry)
        elif isinstance(entry, Entry) and record.outcome == Outcome.APPLY:
            bodies = {group.members[t].number: group.seals.ballot(body) for t, body in entry.bodies.items()}
            group.replica.apply(record.slot, bodies)
        group.advance(entry)
        if not group.inside:
            self._tell()

    def _tell(self) -> None:
        """Ask everyone to be let in."""
        if not self.fresh:
            links = list(self.group.mesh.links)
            body = reached_to_bytes(links)
            self.group.send(links, Frame(Kind.READY, self.group.me.ticket, self.group.slot, body))
