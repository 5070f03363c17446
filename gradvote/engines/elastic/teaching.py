"""What a member sends to those who learn from it: the slots they missed, or a whole state."""

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from gradvote.engines.elastic.frames import Frame, Kind
from gradvote.engines.elastic.links import Link
from gradvote.engines.elastic.parcels import Parcel
from gradvote.engines.elastic.records import Slot

if TYPE_CHECKING:
    from gradvote.engines.elastic.group import Group

FRESH = b"fresh"
"""What a process asks with whose own state is of no use."""
_TICKET = struct.Struct("<I")


def teach(group: "Group", link: Link, slot: Slot | None) -> None:
    """Send what a process misses that stands before a slot; all, where it stands nowhere."""
    if slot == group.slot:
        return
    entries = [e for e in group.log if slot is not None and e.record.slot >= slot]
    if entries and entries[0].record.slot == slot:
        for entry in entries:
            link.send(Frame(Kind.ENTRY, group.me.ticket, entry.record.slot, entry.pack()))
    elif slot is None or slot < group.slot:
        link.send(Frame(Kind.STATE, group.me.ticket, group.slot, _parcel(group).pack()))


def _parcel(group: "Group") -> Parcel:
    members, state, proofs = tuple(group.members.values()), group.replica.snapshot(), tuple(group.proofs.values())
    own = Parcel(group.generation, group.slot, members, group.counted, state, proofs)
    if group.sharding is None:
        return own
    return replace(own, holders=group.sharding.holders, moves=group.sharding.moves, history=group.sharding.history)


def reached_to_bytes(tickets: Iterable[int]) -> bytes:
    """The processes that one is connected to."""
    return b"".join(_TICKET.pack(t) for t in tickets)


def reached_from_bytes(body: bytes | bytearray) -> set[int]:
    """The inverse; what is left over at the end is ignored."""
    whole = len(body) - len(body) % _TICKET.size
    return {t for (t,) in _TICKET.iter_unpack(bytes(body[:whole]))}
