"""A process with its server: takes what arrives, answers what it can in any phase, goes on to the next slot."""

from collections.abc import Iterable, Iterator, Mapping

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.catch_up.teaching import FRESH, HEAL, teach
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.shard_assignment import Holders, Moves
from gradvote.engines.elastic.net.connections import Arrived, Closed, Connection, Event
from gradvote.engines.elastic.net.frames import SHARD_FRAMES, Frame, FrameKind
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.peers import ready
from gradvote.engines.elastic.servers.server import Server
from gradvote.engines.elastic.snapshots import LOGGED_BYTES, Step


class Participant:
    """Above membership and server, below rounds and learning: every phase of a run takes its messages from here."""

    def __init__(self, node: Node, server: Server) -> None:
        self.node, self.server = node, server
        # By ticket, over which connection they have asked: it alone lets states through. On a new one they ask again.
        self._learners, self._healers = dict[int, Connection](), dict[int, Connection]()

    def enter(
        self,
        generation: int,
        slot: Slot,
        members: Iterable[Member],
        counted: Mapping[int, Slot],
        holders: Holders = (),
        moves: Moves = (),
    ) -> None:
        """Stand before a slot."""
        self.node.log.clear()
        self.node.peers.next_slot()
        self.node.membership.enter(generation, slot, members, counted)
        self.node.peers.let_in(self.node.members)
        self.server.enter(self.node, holders, moves)

    def apply(self, step: Step, pending: Ballot | None) -> None:
        """Apply a decided slot, and go on to the next one; `pending` is a ballot of this worker's of unknown fate."""
        record, node = step.record, self.node
        if pending is not None and pending.slot <= record.slot:
            self.server.replica.keep(pending, pending.slot == record.slot and node.me.ticket in record.counted)
        if record.applied:
            self.server.apply(node, step)
        self.advance(step)
        if not node.inside:
            self.ask_in()

    def ask_in(self) -> None:
        """Ask everyone to be let in."""
        connections = list(self.node.peers.connections)
        self.node.peers.send(connections, ready(self.node.me.ticket, self.node.slot, connections))

    def advance(self, step: Step) -> None:
        """Go on to the next slot, and take those along who learn from here."""
        record, node = step.record, self.node
        node.log.add(step)
        node.peers.next_slot()
        node.membership.follow(record, node.peers.left)
        node.peers.let_in(node.members)
        self.server.go_on(node, record)
        self.server.give(node)
        for ticket, connection in self._healers.items():
            if node.peers.connections.get(ticket) is connection:
                self._show(connection, None)
        self._healers = {}
        frame = Frame(FrameKind.STEP, node.me.ticket, record.slot, step.pack()) if self._learners else None
        for ticket, connection in list(self._learners.items()):
            if frame is not None and node.peers.connections.get(ticket) is connection:
                node.peers.send([ticket], frame)
            if record.has(ticket) or connection.states_waiting() > LOGGED_BYTES:
                del self._learners[ticket]  # who does not keep up asks again

    def take(self, seconds: float) -> Event | None:
        """The next event, after what is done with it in any phase; None where there is none for so long.

        A frame that is not `sound` is counted, and says no more than who sent it.
        """
        event = self.node.peers.take(seconds)
        if isinstance(event, Closed):
            self._closed(event)
        elif isinstance(event, Arrived) and event.frame.sound:
            self._serve(event.connection, event.frame)
        elif isinstance(event, Arrived):
            self.node.fault(event, "corrupted", "was altered on its way (its checksum does not fit)")
        return event

    def events(self, seconds: float) -> Iterator[Event]:
        """Wait for an event, and take all that are here: who was stopped for long must not go by its clock first."""
        for _ in range(self.node.peers.num_arrived + 1):
            event = self.take(seconds)
            if event is not None:
                yield event
            seconds = 0.0

    def inform(self, connection: Connection, slot: Slot) -> None:
        """Tell a process that is behind what became of its slot, or that it must learn."""
        step = self.node.log.find(slot)
        if step is not None:
            connection.send(Frame(FrameKind.RECORD, self.node.me.ticket, slot, step.record.to_json().encode()))
        else:
            self._say_where(connection, b"member" if self.node.inside else b"")

    def _closed(self, event: Closed) -> None:
        peer, node = event.connection.peer, self.node
        if self._learners.get(peer.ticket) is event.connection:
            del self._learners[peer.ticket]
        if event.damaged:
            node.counts.add(peer.number, "corrupted")
            node.counts.note(node.slot.step, f"the connection to worker {peer.number}: {event.damaged}")

    def _serve(self, connection: Connection, frame: Frame) -> None:
        ticket, node = connection.peer.ticket, self.node
        if frame.kind == FrameKind.BYE:
            node.peers.left.add(ticket)
        elif frame.kind == FrameKind.READY:
            self._asks(connection.peer, frame)
        elif frame.kind == FrameKind.PULL and not node.inside:
            self._say_where(connection)
        elif frame.kind == FrameKind.PULL:
            self._teach(connection, frame)
        elif frame.slot < node.slot and frame.kind in SHARD_FRAMES:
            self.server.hear_past(node, connection, frame)

    def _teach(self, connection: Connection, frame: Frame) -> None:
        ticket, body, node = connection.peer.ticket, bytes(frame.body), self.node
        if body == HEAL and frame.slot > node.slot:
            self._healers[ticket] = connection  # it has decided a moment earlier
            return
        if body != HEAL or ticket not in node.members:
            self._learners[ticket] = connection
        self._show(connection, None if body in (FRESH, HEAL) else frame.slot)

    def _show(self, connection: Connection, slot: Slot | None) -> None:
        if self.node.peers.may_pull(connection, self.node.timeouts.deadline):
            teach(self.node, self.server, connection, slot)

    def _asks(self, peer: Member, frame: Frame) -> None:
        if self.node.peers.asks(peer.ticket, frame) and not self.node.naming.knows(peer.number):
            text = f"worker {peer.number} cannot join: its public key is not known here"
            self.node.counts.note(self.node.slot.step, text)

    def _say_where(self, connection: Connection, role: bytes = b"") -> None:
        connection.send(Frame(FrameKind.OUTSIDE, self.node.me.ticket, self.node.slot, role))
