"""One slot as this process hears it: whatever arrives goes into `Agreement`, or is counted against its sender."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import astuple

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.errors import Equivocation
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.ballot_box import ReceivedBallot
from gradvote.engines.elastic.consensus.agreement import Agreement
from gradvote.engines.elastic.consensus.records import Record, held_from, record_from
from gradvote.engines.elastic.consensus.storage import RegisterLost, SlotPast
from gradvote.engines.elastic.net.connections import Arrived, Closed, Event, Opened
from gradvote.engines.elastic.net.frames import ROUND_FRAMES, SHARD_FRAMES, Frame, FrameKind
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.peers import has_room
from gradvote.engines.elastic.round_clock import RoundClock
from gradvote.wire import WireError

LOG = logging.getLogger("gradvote.elastic")


class HeardRound:
    """What has been heard of a slot, and what the register says of it. `ahead` are frames for the servers."""

    def __init__(self, participant: Participant, ballot: Ballot) -> None:
        node, server = participant.node, participant.server
        self.participant, self.node, self.server = participant, node, server
        self.generation, self.slot, self.me = node.generation, node.slot, node.me.ticket
        self.ballot, self.box = ballot, server.ballot_box(node, ballot)
        generation = node.generation if node.naming.signed else None
        members, suspects = tuple(node.members.values()), node.membership.state.suspects
        self.agreement = Agreement(self.me, node.slot, members, node.quorum, generation, suspects, server.holders)
        self.behind, self.stopped = False, None  # type: bool, Exception | None
        self.ahead: list[Arrived] = []
        self._proven: set[tuple[int, bytes]] = set()
        self._clock = RoundClock(node.timeouts)
        self._lost: RegisterLost | None = None

    @property
    def open(self) -> bool:
        """Whether this is the round that the group is in."""
        return (self.generation, self.slot) == (self.node.generation, self.node.slot)

    def events(self, seconds: float) -> Iterator[Event]:
        """What arrives, after what is done with it in any phase."""
        return self.participant.events(seconds)

    @property
    def _others(self) -> set[int]:
        return self.agreement.members.keys() - {self.me}

    def _send_ballot(self, to: Iterable[int]) -> None:
        for frame, receivers in self.box.frames(self.me, to):
            self.node.peers.send(receivers, frame)

    def _propose(self, proposal: Record) -> None:
        """Ask the register; where it does not answer in time, the next look at this round asks again."""
        try:
            for proof in proposal.proofs:
                self.node.register.accuse(proof)
            record = self.node.register.decide(self.node.generation, proposal)
        except SlotPast:
            self.behind = True
            return
        except RegisterLost as error:
            if self._lost is None:
                LOG.warning("step %d, attempt %d waits for the register: %s", *astuple(self.slot), error)
            self._lost = error
            return
        self._lost = None
        frame = Frame(FrameKind.RECORD, self.me, self.slot, record.to_json().encode())
        self.node.peers.send(self._others | {m.ticket for m in record.members}, frame)
        self.agreement.decided(record)

    def _handle(self, event: Event) -> None:
        ticket = event.connection.peer.ticket
        if isinstance(event, Arrived) and event.frame.sound:
            self._hear(event)
        elif isinstance(event, Arrived):
            self._spoiled(event)
        elif isinstance(event, Closed) and ticket not in self.node.peers.connections:
            self.agreement.lost(ticket)
        elif isinstance(event, Opened) and ticket in self.agreement.members:
            self.agreement.found(ticket)
            self._send_ballot([ticket])

    def _hear(self, event: Arrived) -> None:
        kind, slot = event.frame.kind, event.frame.slot
        if kind == FrameKind.READY:
            self.agreement.joining = self.node.joining
        elif kind == FrameKind.OUTSIDE:
            self.behind |= self.node.is_behind(self.slot, slot)
        elif kind not in ROUND_FRAMES:
            return
        elif slot > self.slot:
            self.node.keep_early(event)
            self.behind |= kind == FrameKind.RECORD and self.node.is_near(slot) and self.registered(slot) is not None
        elif slot < self.slot:
            self.hear_old(event)
        elif kind == FrameKind.BALLOT:
            self.hear_ballot(event)
        elif kind in SHARD_FRAMES:
            self._hear_shards(event)
        else:
            self._hear_text(event)

    def _hear_shards(self, event: Arrived) -> None:
        if self.server.hear(self.node, event):
            peer = event.connection.peer
            if has_room([e for e in self.ahead if e.connection.peer == peer], event):
                self.ahead.append(event)
        self.agreement.lacking(self.server.lacks(self.node))

    def hear_old(self, event: Arrived) -> None:
        """A frame of a slot that is past."""
        if event.frame.kind == FrameKind.HELD:
            self.participant.inform(event.connection, event.frame.slot)
        elif event.frame.kind == FrameKind.BALLOT and event.frame.author == event.connection.peer.ticket:
            self.node.stale(event)

    def hear_ballot(self, event: Arrived) -> None:
        """Take a ballot of this slot, or count what is wrong with it."""
        frame, node = event.frame, self.node
        member = self.agreement.members.get(frame.author)
        if member is None:
            return
        try:
            received = self.box.read(member, frame, event.connection.peer.ticket)
        except WireError as error:
            node.fault(event, "malformed", str(error))
            self._spoiled(event)
            return
        if not self._proves(frame.author, received.name):
            node.fault(event, "forged", f"is not signed by worker {member.number}, whose it should be")
            self._spoiled(event)
            return
        if event.connection.peer.ticket == frame.author:
            self._check_author(event, received)
        self.agreement.saw(frame.author, received.name)
        if self.box.put(frame.author, received):
            self.agreement.ballot(frame.author, received.name)
            node.counts.arrived(member.number, event.at - self._clock.started)

    def _check_author(self, event: Arrived, received: ReceivedBallot) -> None:
        """The author's own words take the place of what another member said in its name."""
        author = event.connection.peer
        if not self.box.alike(received):
            self.stopped = Equivocation(
                f"At step {self.slot.step} worker {author.number} says that it has applied other decisions than this "
                f"one, worker {self.node.me.number}: it lies, or a server has told them different ones. Nothing was "
                "applied in this step. Look at the machines of all, and start again from checkpoints that are alike."
            )
            raise self.stopped
        forger = self.box.displaced(author.ticket, received)
        if forger is not None:
            number = self.agreement.members[forger].number
            self.node.counts.add(number, "forged")
            text = f"worker {number} gave another ballot as that of worker {author.number} than its author"
            self.node.counts.note(self.slot.step, text)

    def _spoiled(self, event: Arrived) -> None:
        frame = event.frame
        if frame.kind == FrameKind.BALLOT and frame.slot == self.slot and frame.author == event.connection.peer.ticket:
            self.agreement.spoiled(frame.author)

    def _hear_text(self, event: Arrived) -> None:
        try:
            if event.frame.kind == FrameKind.HELD:
                self._hear_list(event)
            else:
                self._hear_record(record_from(bytes(event.frame.body)))
        except ValueError as error:
            self.node.fault(event, "malformed", f"cannot be read: {error}")

    def _hear_list(self, event: Arrived) -> None:
        held, closed, proofs, lacks, seen = held_from(bytes(event.frame.body))
        if all(self._proves(*pair) for pair in held.items()) and self.node.membership.convict(proofs):
            for proof in proofs:
                self.agreement.convict(proof)
            self.agreement.sees(event.connection.peer.ticket, seen)
            self.agreement.tells(event.connection.peer.ticket, held, closed, lacks)
        else:
            self.node.fault(event, "forged", "says more than those it names have signed")
            self.agreement.doubt(event.connection.peer.ticket)

    def _proves(self, author: int, name: bytes) -> bool:
        """Whether a name is that of a ballot of this member; each one is checked once."""
        member, naming = self.agreement.members.get(author), self.node.naming
        if member is None or (author, name) in self._proven:
            return member is not None
        proven = naming.proves(self.node.generation, self.slot, member, name)
        if proven:
            self._proven.add((author, name))
        return proven

    def _hear_record(self, record: Record) -> None:
        """A peer is not believed: the register has the record, or this member knows all of it itself."""
        known = self.registered(self.slot)
        if known is not None:
            self.agreement.decided(known)
        elif self.agreement.full and record == self.agreement.whole():
            self.agreement.decided(record)
        elif self.node.register.exposed and record.slot == self.slot and self._knows(record):
            self._propose(record)  # somebody has deleted it; its sender might propose it as well

    def _knows(self, record: Record) -> bool:
        """Whether all that counts is here."""
        return all(self.agreement.held.get(author) == name for author, name in record.counted.items())

    def registered(self, slot: Slot) -> Record | None:
        """The register's decision; None where there is none, or it does not answer now."""
        try:
            record = self.node.register.decision(self.node.generation, slot)
        except RegisterLost as error:
            self._lost = error
            return None
        self._lost = None
        return record
