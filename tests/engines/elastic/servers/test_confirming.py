"""When a sharded step is applied, confirmed by the register, or taken again: peers are played, without threads."""

import threading
from unittest.mock import patch

import pytest

from gradvote.elastic import Equivocation, Timeouts
from gradvote.engines.common.digests import digest_of
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.catch_up.learning import Learner
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.net.connections import Arrived, Closed
from gradvote.engines.elastic.net.frames import FrameKind
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.peers import ready
from gradvote.engines.elastic.snapshots import ShardedStep
from tests.engines.elastic.played import (
    WITHOUT_US,
    Played,
    after_the_ballots,
    arrived,
    decisions_of,
    delivering,
    member,
    said,
    sent,
    shards_of,
)


def test_a_step_is_applied_when_all_shards_are_known() -> None:
    with member(1) as own:
        vote, record = after_the_ballots(own)
        known = all_say(own)
        for ticket in (2, 3):
            has_all(own, ticket, known)
        entry = vote.settle(record)
        assert isinstance(entry, ShardedStep) and len(entry.decisions) == 3 and entry.memories.keys() == {0, 2}
        assert own.node.register.confirmed(1, Slot()) is None  # a healthy step does not ask
        Learner(own, False, vote.ballot).replay(entry)
        assert own.node.slot == Slot(1) and not own.server.lacks(own.node)
        kept = own.node.log.find(Slot(0))
        assert isinstance(kept, ShardedStep) and not kept.memories  # the log would hold memories of 32 steps


def all_say(own: Participant) -> dict[int, bytes]:
    """The peers send what they work out."""
    known: dict[int, bytes] = {}
    for ticket in (2, 3):
        for shard, body in decisions_of(ticket, shards_of(own).holders).items():
            said(own, ticket, shard, body)
            known[shard] = body
    return known


def has_all(own: Participant, ticket: int, decisions: dict[int, bytes]) -> None:
    """A peer says that it has all decisions: these."""
    body = digest_of(b"".join((shards_of(own).history, *(decisions[s] for s in sorted(decisions)))))
    own.node.peers._inbox.put(arrived(own, FrameKind.WHOLE, ticket, body))


def test_other_decisions_than_here_stop_the_step() -> None:
    with member(1) as own:
        vote, record = after_the_ballots(own)
        known = all_say(own)
        has_all(own, 3, {**known, 1: known[1][::-1]})
        with pytest.raises(Equivocation, match="worker 0 and worker 2 said different things of what was decided"):
            vote.settle(record)
        assert own.node.slot == Slot() and own.node.register.confirmed(1, Slot()) is None


def test_where_somebody_is_silent_the_register_confirms_the_step() -> None:
    with member(1) as own:
        vote, record = after_the_ballots(own)
        has_all(own, 2, all_say(own))
        step = vote.settle(record)
        assert step is not None and step.record == record
        assert own.node.register.confirmed(1, Slot()) == record
        assert len(sent(own, 3, FrameKind.WHOLE)) >= 1


def test_a_step_that_nobody_can_tell_is_taken_again_by_who_is_left() -> None:
    with member(1, WITHOUT_US) as own:
        own.node.quorum = 1
        vote, record = after_the_ballots(own)
        for ticket in (2, 3):
            own.node.peers._inbox.put(Closed(own.node.mesh.connections[ticket]))
        step = vote.settle(record)
        assert step is not None and [m.ticket for m in step.record.members] == [1]
        assert str(step.record.given_up).startswith(
            "given up, as worker 0 has found: nobody who answers can tell the decision on a shard (1); worker 1: its "
            "connection was closed, seen by 0"
        )
        own.advance(step)
        assert own.node.slot == Slot(0, 1) and own.node.inside and not own.server.lacks(own.node)
        assert "memory of shard 1 was lost" in str(own.node.counts.notes)


def test_who_comes_anew_makes_up_the_number_for_a_step_that_nobody_can_tell() -> None:
    with member(1, WITHOUT_US) as own:
        vote, record = after_the_ballots(own)
        own.node.peers._inbox.put(Closed(own.node.mesh.connections[2]))
        own.node.peers._inbox.put(Closed(own.node.mesh.connections[3]))
        own.node.mesh.connections[4] = new = Played(Member(4, 1))
        own.node.peers._inbox.put(Arrived(new, ready(4, Slot(), [1])))
        step = vote.settle(record)
        assert step is not None and [m.ticket for m in step.record.members] == [1, 4]
        assert all(4 in own for own in step.record.holders)


def test_what_others_have_confirmed_is_waited_for() -> None:
    """They know what was decided, and are cut off for longer than all that is counted in `deadline` and `grace`."""
    with member(1, WITHOUT_US) as own:
        task = delivering(own)
        known = {t: decisions_of(t, WITHOUT_US) for t in (2, 3)}
        own.node.timeouts = Timeouts(0.1, 0.02, 1.0, 60.0)
        own.node.register.confirm(1, task.record)
        ended: list[ShardedStep | None] = []
        waiting = threading.Thread(target=lambda: ended.append(task.run()))
        waiting.start()
        waiting.join(1.0)
        assert waiting.is_alive() and not ended
        said(own, 2, 1, known[2][1])
        said(own, 3, 2, known[3][2])
        waiting.join(20)
        assert ended and ended[0] is not None and ended[0].record == task.record


def test_what_was_promised_holds_after_an_error() -> None:
    """Another member may have applied the step, because this one said that it has all decisions."""
    with member(1, WITHOUT_US) as own:
        own.node.quorum = 1
        vote, record = after_the_ballots(own)
        all_say(own)
        with patch.object(own.node.register, "confirm", side_effect=RegisterLost), pytest.raises(RegisterLost):
            vote.settle(record)
        own.node.mesh.connections.clear()
        step = vote.settle(record)
        assert step is not None and step.record == record


def test_who_was_slower_hears_from_the_register_what_became_of_the_step() -> None:
    with member(1, WITHOUT_US) as own:
        vote, record = after_the_ballots(own)
        given_up = Record(Slot(), Outcome.VOID, members=record.members[1:], holders=((2, 3), (2, 3), (3, 2)))
        own.node.register.confirm(1, given_up)
        all_say(own)
        step = vote.settle(record)
        assert step is not None and step.record == given_up
        own.advance(step)
        assert not own.node.inside
        assert own.node.is_behind(Slot(), Slot(1))
