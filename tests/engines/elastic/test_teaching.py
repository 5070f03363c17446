"""A member sends its state where it was asked for it: on another connection that would be an offence, and end it."""

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.catch_up.teaching import FRESH, HEAL
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.net.connections import Arrived
from gradvote.engines.elastic.net.frames import STATE_FRAMES, Frame, FrameKind
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.snapshots import DecidedStep
from tests.engines.elastic.played import Played, member

PEER = 2


def asks(own: Participant, connection: Played, wish: bytes, slot: Slot) -> None:
    own.node.peers._inbox.put(Arrived(connection, Frame(FrameKind.PULL, PEER, slot, wish)))
    own.take(1.0)


def states(connection: Played) -> list[FrameKind]:
    return [frame.kind for frame in connection.sent if frame.kind in STATE_FRAMES]


@pytest.mark.parametrize(("wish", "slot"), [(FRESH, Slot()), (b"", Slot()), (HEAL, Slot(1))])
@pytest.mark.parametrize("anew", [False, True])
def test_states_go_over_the_connection_that_has_asked(wish: bytes, slot: Slot, anew: bool) -> None:
    with member(1, sharded=False) as own:
        old, new = Played(Member(PEER, PEER - 1)), Played(Member(PEER, PEER - 1))
        own.node.mesh.connections[PEER] = old
        asks(own, old, wish, slot)
        before = len(states(old))
        if anew:  # both had dialled at once, and one connection stays
            own.node.mesh.connections[PEER] = new
        members = tuple(own.node.members.values())
        own.advance(DecidedStep(Record(Slot(), Outcome.VOID, members=members), {}))
        assert not states(new) and (len(states(old)) > before) != anew
        if anew:  # it asks again
            asks(own, new, FRESH, own.node.slot)
            assert states(new)
