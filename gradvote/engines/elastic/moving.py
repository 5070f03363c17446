"""What members of a sharded run owe each other between two steps: memories for new holders, decisions of the past."""

from typing import TYPE_CHECKING

from gradvote.engines.distributed.digests import Equivocation
from gradvote.engines.elastic.frames import DIGEST_BYTES, Frame, Kind, digest_of
from gradvote.engines.elastic.holders import SHARD, Holders, Moves, sources
from gradvote.engines.elastic.links import Arrived, Link
from gradvote.engines.elastic.parcels import Decided, shards_from_bytes
from gradvote.engines.elastic.records import Slot

if TYPE_CHECKING:
    from gradvote.engines.elastic.group import Group


def move_on(group: "Group", slot: Slot, after: Slot, holders: Holders, moves: Moves, changed: bool) -> None:
    """Take over who holds which shard; `changed`: the slot was applied."""
    if group.sharding is None:
        return
    group.sharding.move_on(group.me.ticket, slot, after, holders, moves, changed)
    for shard, source in enumerate(sources(holders, moves)):
        if source is None:
            text = f"the server's memory of shard {shard} was lost with both workers that held it, and begins anew"
            group.tallies.note(after.step, text)


def give(group: "Group") -> None:
    """Send the memories that lie here to those who hold their shards from this slot on."""
    sharding, me = group.sharding, group.me.ticket
    if sharding is None:
        return
    givers = sources(sharding.holders, sharding.moves)
    given = [(shard, ticket) for shard, ticket in sharding.moves if givers[shard] == me and ticket in group.mesh.links]
    for ticket in {ticket for _, ticket in given}:
        group.mesh.links[ticket].withdraw(Kind.MEMORY)
    for shard, ticket in given:
        if shard in sharding.has(group.slot):
            group.send([ticket], Frame(Kind.MEMORY, me, group.slot, sharding.to_bytes(shard)))


def is_needed(group: "Group") -> bool:
    """Whether a member may still ask what was decided in the last slot: it has neither left nor gone on."""
    here = group.members.keys() & group.mesh.links.keys() - group.left if group.sharding is not None else set()
    return any(group.reached.get(ticket, Slot()) < group.slot for ticket in here)


def fill(group: "Group", event: Arrived) -> None:
    """Take over a shard's memory from the holder that was to give it."""
    assert group.sharding is not None
    try:
        group.sharding.take(group.me.ticket, event.link.peer.ticket, event.frame.slot, event.frame.body)
    except ValueError as error:
        group.fault(event, "malformed", f"cannot be used: {error}")


def repeat(group: "Group", link: Link, frame: Frame) -> None:
    """Tell once more what was decided on shards in a slot of the past."""
    entry = group.entry(frame.slot)
    if not isinstance(entry, Decided) or not entry.decisions:
        link.send(Frame(Kind.OUTSIDE, group.me.ticket, group.slot))
        return
    for shard in shards_from_bytes(frame.body, len(entry.decisions)):
        body = SHARD.pack(shard) + entry.decisions[shard]
        link.send(Frame(Kind.DECISION, group.me.ticket, frame.slot, body))


def compare(group: "Group", link: Link, frame: Frame) -> None:
    """What a holder says too late of a slot of the past is still held against what was applied.

    Raises:
        Equivocation: it is something else.
    """
    entry = group.entry(frame.slot)
    if not isinstance(entry, Decided) or len(frame.body) < SHARD.size:
        return
    (shard,), body = SHARD.unpack_from(frame.body), bytes(frame.body[SHARD.size :])
    if shard >= len(entry.holders) or link.peer.ticket not in entry.holders[shard]:
        return
    said = body if frame.kind == Kind.DIGEST and len(body) == DIGEST_BYTES else digest_of(body)
    if said != digest_of(entry.decisions[shard]):
        raise Equivocation(
            f"At step {frame.slot.step} worker {link.peer.number} says of the decision on shard {shard} something else "
            "than was applied here: it lies, or the shard's other holder has, or one of their machines is at fault. "
            "Start again from the checkpoints before that step, without them."
        )
