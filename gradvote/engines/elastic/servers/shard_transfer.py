"""What members of a sharded run owe each other between two steps: memories for new holders, decisions of the past."""

from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.slot import Slot
from gradvote.engines.distributed.digests import Equivocation
from gradvote.engines.elastic.consensus.shard_assignment import SHARD, sources
from gradvote.engines.elastic.net.connections import Arrived, Connection
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.servers.shards import Shards
from gradvote.engines.elastic.snapshots import ShardedStep, shards_from_bytes


def say_what_is_lost(node: Node, shards: Shards) -> None:
    """Note the memories that begin anew with the slot that a process stands before."""
    for shard, source in enumerate(sources(shards.holders, shards.moves)):
        if source is None:
            text = f"the server's memory of shard {shard} was lost with both workers that held it, and begins anew"
            node.counts.note(node.slot.step, text)


def give(node: Node, shards: Shards) -> None:
    """Send the memories that lie here to those who hold their shards from this slot on."""
    me, connections = node.me.ticket, node.peers.connections
    givers = sources(shards.holders, shards.moves)
    given = [(shard, ticket) for shard, ticket in shards.moves if givers[shard] == me and ticket in connections]
    for ticket in {ticket for _, ticket in given}:
        connections[ticket].withdraw(FrameKind.MEMORY)
    for shard, ticket in given:
        if shard in shards.has(node.slot):
            node.peers.send([ticket], Frame(FrameKind.MEMORY, me, node.slot, shards.to_bytes(shard)))


def is_needed(node: Node) -> bool:
    """Whether a member may still ask what was decided in the last slot: it has neither left nor gone on."""
    peers = node.peers
    here = node.members.keys() & peers.connections.keys() - peers.left
    return any(peers.reached.get(ticket, Slot()) < node.slot for ticket in here)


def fill(node: Node, shards: Shards, event: Arrived) -> None:
    """Take over a shard's memory from the holder that was to give it."""
    try:
        shards.take(node.me.ticket, event.connection.peer.ticket, event.frame.slot, event.frame.body)
    except ValueError as error:
        node.fault(event, "malformed", f"cannot be used: {error}")


def repeat(node: Node, connection: Connection, frame: Frame) -> None:
    """Tell once more what was decided on shards in a slot of the past."""
    step = node.log.find(frame.slot)
    if not isinstance(step, ShardedStep) or not step.decisions:
        connection.send(Frame(FrameKind.OUTSIDE, node.me.ticket, node.slot))
        return
    for shard in shards_from_bytes(frame.body, len(step.decisions)):
        body = SHARD.pack(shard) + step.decisions[shard]
        connection.send(Frame(FrameKind.DECISION, node.me.ticket, frame.slot, body))


def compare(node: Node, connection: Connection, frame: Frame) -> None:
    """What a holder says too late of a slot of the past is still held against what was applied.

    Raises:
        Equivocation: it is something else.
    """
    step = node.log.find(frame.slot)
    if not isinstance(step, ShardedStep) or len(frame.body) < SHARD.size:
        return
    (shard,), body = SHARD.unpack_from(frame.body), bytes(frame.body[SHARD.size :])
    if shard >= len(step.holders) or connection.peer.ticket not in step.holders[shard]:
        return
    said = body if frame.kind == FrameKind.DIGEST and len(body) == DIGEST_BYTES else digest_of(body)
    if said != digest_of(step.decisions[shard]):
        raise Equivocation(
            f"At step {frame.slot.step} worker {connection.peer.number} says of the decision on shard {shard} "
            "something else than was applied here: it lies, or the shard's other holder has, or one of their machines "
            "is at fault. Start again from the checkpoints before that step, without them."
        )
