"""What a member sends to those who learn from it: the slots they missed, or a whole state."""

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.net.connections import Connection
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.servers.server import Server
from gradvote.engines.elastic.snapshots import Snapshot

FRESH = b"fresh"
"""What a process asks with whose own state is of no use."""
HEAL = b"heal"
"""What a member asks with that has to take over the state before the very slot it stands before."""


def teach(node: Node, server: Server, connection: Connection, slot: Slot | None) -> None:
    """Send what a process misses that stands before a slot; all, where it stands nowhere."""
    if slot == node.slot:
        return
    steps = node.log.since(slot) if slot is not None else []
    for step in steps:
        connection.send(Frame(FrameKind.STEP, node.me.ticket, step.record.slot, step.pack()))
    if not steps and (slot is None or slot < node.slot):
        connection.send(Frame(FrameKind.SNAPSHOT, node.me.ticket, node.slot, packed_snapshot(node, server)))


def packed_snapshot(node: Node, server: Server) -> bytes:
    """The state before the slot that a member stands before, as the body of a frame."""
    group = node.membership.state
    members, proofs = tuple(group.members.values()), tuple(group.proofs.values())
    about = group.generation, group.slot, members, group.counted, b"", proofs
    found = Snapshot(*about, server.holders, server.moves, server.history)
    return found.pack_with(server.replica.snapshot)
