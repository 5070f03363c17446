"""One slot with the others: sends and receives for `Agreement`, which decides."""

import logging
import time
from collections.abc import Iterable
from dataclasses import astuple

from gradvote.engines.distributed.digests import Equivocation
from gradvote.engines.elastic import moving
from gradvote.engines.elastic.actions import Forward, Propose, Tell
from gradvote.engines.elastic.agreement import Agreement
from gradvote.engines.elastic.ballots import Ballot
from gradvote.engines.elastic.frames import Frame, Kind
from gradvote.engines.elastic.group import KEPT_EARLY, Group
from gradvote.engines.elastic.links import Arrived, Closed, Event, Opened
from gradvote.engines.elastic.records import Record, Slot, held_from, held_to_json, record_from
from gradvote.engines.elastic.timeouts import TooFewWorkers
from gradvote.engines.elastic.trays import Cut, Part, Tray, Whole
from gradvote.wire import WireError

LOG = logging.getLogger("gradvote.elastic")
IDLE = 0.25
VOTES = (Kind.BALLOT, Kind.HELD, Kind.RECORD)
SHARDS = (Kind.DECISION, Kind.DIGEST, Kind.WANT, Kind.MEMORY)


class Round:
    """`run` gives the decision; None where the others have gone on without this process, or it is to stop.

    After an error it can be run again, and must be: what this process has promised to the others still binds it.
    """

    def __init__(self, group: Group, ballot: Ballot) -> None:
        self.group, self.generation, self.slot, self.me = group, group.generation, group.slot, group.me.ticket
        self.ballot, self.tray = ballot, tray_of(group, ballot)
        generation = group.generation if group.seals.signed else None
        members, holders = tuple(group.members.values()), group.sharding.holders if group.sharding else ()
        self.agreement = Agreement(self.me, group.slot, members, group.quorum, generation, group.suspects, holders)
        self.behind, self.stopped = False, None  # type: bool, Exception | None
        self.ahead: list[Arrived] = []
        self._proven: set[tuple[int, bytes]] = set()
        self._started, self._slow_since = 0.0, None  # type: float, float | None

    @property
    def open(self) -> bool:
        """Whether this is the round that the group is in."""
        return (self.generation, self.slot) == (self.group.generation, self.group.slot)

    def run(self) -> Record | None:
        """Until the slot is decided.

        Raises:
            TooFewWorkers: the group stayed too small for too long.
            Equivocation: somebody has told different things to different members.
        """
        group, agreement = self.group, self.agreement
        if self.stopped is not None:
            raise self.stopped
        self._started, self._slow_since = time.monotonic(), None
        agreement.ballot(self.me, self.tray.name(self.me))
        agreement.lacking(group.lacks)
        for proof in group.proofs.values():
            agreement.convict(proof)
        for ticket in group.members.keys() - group.mesh.links.keys() - {self.me}:
            agreement.lost(ticket)
        self._send_ballot(self._others)
        agreement.joining = group.joining
        for early in group.now_due():
            self._handle(early)
        while not self.behind and agreement.decision is None:
            self._act()
            if agreement.decision is None and self._gives_up:
                break
            if agreement.decision is None:
                for event in group.events(self._patience()):
                    self._handle(event)
                self._look_at_clock()
        group.tallies.slow += agreement.slow
        group.suspects = frozenset(agreement.doubted)
        group.convict(agreement.proofs.values())
        LOG.debug("step %d, attempt %d: decided %s", *astuple(self.slot), agreement.decision)
        return agreement.decision

    @property
    def _gives_up(self) -> bool:
        """Whether a process that was asked to stop would wait for others that have left, or for long.

        All is as it was before the step then, and to the others this process has died: they decide without it.
        """
        group = self.group
        here = self.agreement.members.keys() - self.agreement.gone - group.left
        late = time.monotonic() > self._started + group.timeouts.settled
        return group.leaving and (len(here) < group.quorum or late)

    @property
    def _others(self) -> set[int]:
        return self.agreement.members.keys() - {self.me}

    def _send_ballot(self, to: Iterable[int]) -> None:
        for frame, receivers in self.tray.frames(self.me, to):
            self.group.send(receivers, frame)

    def _act(self) -> None:
        for action in self.agreement.actions():
            LOG.debug("step %d, attempt %d, worker %d: %s", *astuple(self.slot), self.group.me.number, action)
            if isinstance(action, Tell):
                body = held_to_json(action.held, action.closed, action.proofs, action.lacks, action.seen).encode()
                self.group.send(self._others, Frame(Kind.HELD, self.me, self.slot, body))
            elif isinstance(action, Forward):
                self.group.send([action.to], self.tray.frame(action.author, action.to))
            elif isinstance(action, Propose):
                self._propose(action.record)

    def _propose(self, proposal: Record) -> None:
        for proof in proposal.proofs:
            self.group.register.accuse(proof)
        record = self.group.register.decide(self.group.generation, proposal)
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
        elif kind not in VOTES + SHARDS:
            return
        elif slot > self.slot:
            self.group.keep_early(event)
            self.behind |= kind == Kind.RECORD and self._registered(slot) is not None
        elif slot < self.slot:
            self.hear_old(event)
        elif kind == Kind.BALLOT:
            self.hear_ballot(event)
        elif kind in SHARDS:
            self._hear_shards(event)
        else:
            self._hear_text(event)

    def _hear_shards(self, event: Arrived) -> None:
        peer = event.link.peer
        if self.group.sharding is None:
            self.group.fault(event, "malformed", "has no meaning in a run whose server is not sharded")
        elif event.frame.kind == Kind.MEMORY:
            moving.fill(self.group, event)
            self.agreement.lacking(self.group.lacks)
        elif sum(e.link.peer == peer for e in self.ahead) < KEPT_EARLY:
            self.ahead.append(event)

    def hear_old(self, event: Arrived) -> None:
        """A frame of a slot that is past."""
        if event.frame.kind == Kind.HELD:
            self.group.inform(event.link, event.frame.slot)
        elif event.frame.kind == Kind.BALLOT and event.frame.author == event.link.peer.ticket:
            self.group.stale(event)

    def hear_ballot(self, event: Arrived) -> None:
        """Take a ballot of this slot, or count what is wrong with it."""
        frame, group = event.frame, self.group
        member = self.agreement.members.get(frame.author)
        if member is None:
            return
        try:
            part = self.tray.read(member, frame, event.link.peer.ticket)
        except WireError as error:
            group.fault(event, "malformed", str(error))
            self._spoiled(event)
            return
        if not self._proves(frame.author, part.name):
            group.fault(event, "forged", f"is not signed by worker {member.number}, whose it should be")
            self._spoiled(event)
            return
        if event.link.peer.ticket == frame.author:
            self._check_author(event, part)
        self.agreement.saw(frame.author, part.name)
        if self.tray.put(frame.author, part):
            self.agreement.ballot(frame.author, part.name)
            group.tallies.arrived(member.number, event.at - self._started)

    def _check_author(self, event: Arrived, part: Part) -> None:
        """The author's own words take the place of what another member said in its name."""
        author = event.link.peer
        if not self.tray.alike(part):
            self.stopped = Equivocation(
                f"At step {self.slot.step} worker {author.number} says that it has applied other decisions than this "
                f"one, worker {self.group.me.number}: it lies, or a server has told them different ones. Nothing was "
                "applied in this step. Look at the machines of all, and start again from checkpoints that are alike."
            )
            raise self.stopped
        forger = self.tray.displaced(author.ticket, part)
        if forger is not None:
            number = self.agreement.members[forger].number
            self.group.tallies.add(number, "forged")
            text = f"worker {number} gave another ballot as that of worker {author.number} than its author"
            self.group.tallies.note(self.slot.step, text)

    def _spoiled(self, event: Arrived) -> None:
        frame = event.frame
        if frame.kind == Kind.BALLOT and frame.slot == self.slot and frame.author == event.link.peer.ticket:
            self.agreement.spoiled(frame.author)

    def _hear_text(self, event: Arrived) -> None:
        try:
            if event.frame.kind == Kind.HELD:
                self._hear_list(event)
            else:
                self._hear_record(record_from(bytes(event.frame.body)))
        except ValueError as error:
            self.group.fault(event, "malformed", f"cannot be read: {error}")

    def _hear_list(self, event: Arrived) -> None:
        held, closed, proofs, lacks, seen = held_from(bytes(event.frame.body))
        if all(self._proves(*pair) for pair in held.items()) and self.group.convict(proofs):
            for proof in proofs:
                self.agreement.convict(proof)
            self.agreement.sees(event.link.peer.ticket, seen)
            self.agreement.tells(event.link.peer.ticket, held, closed, lacks)
        else:
            self.group.fault(event, "forged", "says more than those it names have signed")
            self.agreement.doubt(event.link.peer.ticket)

    def _proves(self, author: int, name: bytes) -> bool:
        """Whether a name is that of a ballot of this member; each one is checked once."""
        member, seals = self.agreement.members.get(author), self.group.seals
        if member is None or (author, name) in self._proven:
            return member is not None
        proven = seals.proves(self.group.generation, self.slot, member, name)
        if proven:
            self._proven.add((author, name))
        return proven

    def _hear_record(self, record: Record) -> None:
        """A peer is not believed: the register has the record, or this member knows all of it itself."""
        known = self._registered(self.slot)
        if known is not None:
            self.agreement.decided(known)
        elif self.agreement.full and record == self.agreement.whole():
            self.agreement.decided(record)

    def _registered(self, slot: Slot) -> Record | None:
        return self.group.register.decision(self.group.generation, slot)

    def _marks(self) -> list[float]:
        t = self.group.timeouts
        marks = [self._started + t.deadline, self._started + t.timeout]
        if self._slow_since is None:
            return marks
        return [*marks, *(self._slow_since + wait for wait in (t.grace, 3 * t.grace, 3 * t.grace + t.deadline))]

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
            agreement.desperate = now >= self._slow_since + 3 * t.grace + t.deadline
        if now >= self._started + t.timeout:
            raise TooFewWorkers(
                f"Step {self.slot.step} could not be decided within {t.timeout:g} s: {len(agreement.held)} ballots of "
                f"{len(agreement.members)} members are here, min_workers is {self.group.quorum}. Start workers again."
            )


def tray_of(group: Group, ballot: Ballot) -> Tray:
    """For the ballots of the round that a group is in; this one is the member's own."""
    if group.sharding is None:
        return Whole(group.replica, group.seals, group.slot, group.me, group.generation, ballot)
    return Cut(group.sharding, group.seals, group.slot, group.me, group.generation, ballot)
