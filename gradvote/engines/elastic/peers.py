"""The other processes as this one hears them: who is connected, what they said of themselves, what came too early."""

import queue
import struct
from collections.abc import Iterable, Sequence

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.membership import GroupState
from gradvote.engines.elastic.net.connections import ROOM, Arrived, Closed, Connection, Event, Inbox
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.net.gate import Allowance
from gradvote.engines.elastic.net.mesh import Mesh

LAG, KEPT_EARLY = 8, 128
"""How many slots behind a process may be let in; how many frames of a peer wait for their slot."""
FRAMES, FRAMES_PER_SECOND, A_FAULT = 4096, 64.0, 32.0
"""How many frames a peer may send in a slot, and beyond that if the slot lasts; as how many a wrong one counts."""
TAUGHT = 8
"""How often a worker is sent what it asks for at once, a state or steps; then once in so many seconds."""
_TICKET = struct.Struct("<I")


class Peers:
    """All that arrives is taken from here. `left` are those who said that they leave, `reached` where they are."""

    def __init__(self, mesh: Mesh, inbox: Inbox) -> None:
        self.mesh, self._inbox = mesh, inbox
        self.left, self.reached = set[int](), dict[int, Slot]()
        self._asking: dict[int, tuple[Slot, set[int]]] = {}
        self._early: list[Arrived] = []
        self._allowed: dict[int, Allowance] = {}
        self._taught: dict[int, Allowance] = {}

    @property
    def connections(self) -> dict[int, Connection]:
        """Those that stand now, by ticket."""
        return self.mesh.connections

    @property
    def num_arrived(self) -> int:
        """Events that wait."""
        return self._inbox.qsize()

    def take(self, seconds: float) -> Event | None:
        """The next event; None where there is none for so long."""
        try:
            event = self._inbox.get(timeout=seconds) if seconds > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None
        ticket = event.connection.peer.ticket
        if isinstance(event, Arrived):
            event.connection.taken(event.frame)
            if not self.allows(event.connection):
                return None
        if isinstance(event, Arrived) and event.frame.sound:
            self.reached[ticket] = max(event.frame.slot, self.reached.get(ticket, event.frame.slot))
        elif isinstance(event, Closed):
            self.mesh.closed(event.connection)
            if event.offence:
                self.mesh.offends(event.connection, event.offence)
            if ticket not in self.connections:
                self._allowed.pop(ticket, None)
                self._asking.pop(ticket, None)
                self.reached.pop(ticket, None)
        return event

    def allows(self, connection: Connection, amount: float = 1.0) -> bool:
        """Whether a peer has not sent too much in this slot; who has is cut off."""
        bucket = self._allowed.setdefault(connection.peer.ticket, Allowance(FRAMES, FRAMES_PER_SECOND))
        if bucket.take(amount):
            return True
        if not connection.ending:
            self.mesh.offends(connection, "too many frames")
        return False

    def next_slot(self) -> None:
        """Another slot begins: all may send as much again."""
        self._allowed.clear()

    def may_pull(self, connection: Connection, seconds: float) -> bool:
        """Whether a peer is sent a state or steps: not while others wait for it, and not again and again."""
        bucket = self._taught.setdefault(connection.peer.number, Allowance(TAUGHT, 1 / seconds))
        if connection.states_waiting():
            return False
        if bucket.take():
            return True
        self.mesh.gate.refuse("asks too often")
        return False

    def send(self, to: Iterable[int], frame: Frame) -> None:
        """Send a frame to those of these processes that are connected."""
        for ticket in to:
            connection = self.connections.get(ticket)
            if connection is not None:
                connection.send(frame)

    def asks(self, ticket: int, frame: Frame) -> bool:
        """A process asks to be let in, and says whom it is connected to; whether it asks for the first time."""
        first = ticket not in self._asking
        self._asking[ticket] = frame.slot, connected_from_bytes(frame.body)
        return first

    def joining(self, group: GroupState) -> tuple[Member, ...]:
        """The processes that can be let in now: they know nearly all, and are connected to all that are here."""
        connections = dict(self.connections)
        here = (group.members.keys() & connections.keys()) | {group.me.ticket}
        asking = {t: ask for t, ask in self._asking.items() if t in connections and t not in group.members}
        near = (t for t, (slot, know) in asking.items() if slot.step >= group.slot.step - LAG and here <= know)
        return tuple(connections[t].peer for t in sorted(near))

    def let_in(self, members: Iterable[int]) -> None:
        """These are members now, and ask no more."""
        for ticket in members:
            self._asking.pop(ticket, None)

    def num_waiting(self, members: Iterable[int]) -> int:
        """Connected processes that are no members, and may still learn from here."""
        return len(set(self.connections) - set(members) - self.left)

    def keep_latest(self, event: Arrived) -> None:
        """Keep a frame while this process does not know yet which slot it will begin with; the latest of each peer."""
        if event.frame.sound:
            kept = self._early_of(event)
            while kept and not has_room(kept, event):
                oldest = kept.pop(0)
                self._early = [e for e in self._early if e is not oldest]
            self._early.append(event)

    def keep(self, event: Arrived) -> bool:
        """Keep a frame of a coming slot until then; False where too many wait."""
        if not has_room(self._early_of(event), event):
            return False
        self._early.append(event)
        return True

    def due(self, slot: Slot) -> list[Arrived]:
        """The frames kept for this slot; older ones are let go."""
        due = [e for e in self._early if e.frame.slot == slot]
        self._early = [e for e in self._early if e.frame.slot > slot]
        return due

    def _early_of(self, event: Arrived) -> list[Arrived]:
        return [e for e in self._early if e.connection.peer == event.connection.peer]


def has_room(kept: Sequence[Arrived], event: Arrived) -> bool:
    """Whether another frame of a peer may be kept beside those that are."""
    room = ROOM + 4 * max(event.connection.limits.values(), default=0)
    return len(kept) < KEPT_EARLY and sum(len(e.frame.body) for e in [*kept, event]) <= room


def bye(me: int, slot: Slot) -> Frame:
    """What a process says last."""
    return Frame(FrameKind.BYE, me, slot)


def ready(me: int, slot: Slot, connected: Iterable[int]) -> Frame:
    """Ask to be let in, by whom one is connected to."""
    return Frame(FrameKind.READY, me, slot, b"".join(_TICKET.pack(t) for t in connected))


def connected_from_bytes(body: bytes | bytearray) -> set[int]:
    """The processes in the body of a `ready`; what is left over at the end is ignored."""
    whole = len(body) - len(body) % _TICKET.size
    return {t for (t,) in _TICKET.iter_unpack(bytes(body[:whole]))}
