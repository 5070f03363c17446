"""What may come from peers between ballots and decision: one process, without threads, whose peers are played."""

import struct

import pytest
import torch
from torch import nn

from gradvote import algorithms
from gradvote.elastic import Equivocation, ShardLost
from gradvote.engines.elastic import delivery, moving
from gradvote.engines.elastic.checks import SPARE_BYTES, limits_of
from gradvote.engines.elastic.frames import DIGEST_BYTES, Kind, digest_of
from gradvote.engines.elastic.group import KEPT_EARLY
from gradvote.engines.elastic.holders import SHARD, Holders
from gradvote.engines.elastic.learning import Learner
from gradvote.engines.elastic.links import Arrived, Closed
from gradvote.engines.elastic.parcels import Decided, Parcel
from gradvote.engines.elastic.records import Member, Outcome, Record, Slot
from gradvote.engines.elastic.replica import Replica
from gradvote.engines.elastic.rounds import Round
from gradvote.engines.elastic.sharding import Sharding
from tests.engines.elastic.played import (
    WITHOUT_US,
    Played,
    after_the_ballots,
    arrived,
    decisions_of,
    delivering,
    frame,
    member,
    said,
    sent,
)


def test_the_holders_of_a_shard_decide_alike() -> None:
    first, second, third = decisions_of(1), decisions_of(2), decisions_of(3)
    assert first.keys() == {0, 2} and second.keys() == {0, 1} and third.keys() == {1, 2}
    assert first[0] == second[0] and second[1] == third[1] and third[2] == first[2]


def test_a_step_is_applied_when_all_shards_are_known() -> None:
    with member(1) as group:
        vote, record = after_the_ballots(group)
        for ticket in (2, 3):
            for shard, body in decisions_of(ticket).items():
                said(group, ticket, shard, body)
        entry = delivery.deliver(vote, record)
        assert entry is not None and len(entry.decisions) == 3 and entry.memories.keys() == {0, 2}
        Learner(group, False, vote.ballot).replay(entry)
        assert group.slot == Slot(1) and not group.lacks
        kept = group.entry(Slot(0))
        assert isinstance(kept, Decided) and not kept.memories  # the log would hold memories of 32 steps


@pytest.mark.parametrize("kind", [Kind.DECISION, Kind.DIGEST])
def test_a_holder_that_says_something_else_stops_the_step_for_good(kind: Kind) -> None:
    with member(1) as group:
        vote, record = after_the_ballots(group)
        true = decisions_of(2)[0]
        false = bytes([*true[:-1], true[-1] ^ 1])
        said(group, 2, 0, false if kind == Kind.DECISION else digest_of(false), kind)
        for _ in range(2):
            with pytest.raises(
                Equivocation, match="worker 0 and worker 1 said different things of the decision on shard 0"
            ):
                delivery.deliver(vote, record) if vote.stopped is None else vote.run()
        assert group.slot == Slot() and group.replica.worker is not vote.ballot.after


def test_other_learning_rates_are_found_before_anything_is_applied() -> None:
    with member(1) as group:
        vote, record = after_the_ballots(group)
        said(group, 3, 2, decisions_of(3)[2])
        said(group, 2, 1, struct.pack("<d", 9e9) + decisions_of(2)[1][8:])
        with pytest.raises(Equivocation, match="said different things of the learning rates"):
            delivery.deliver(vote, record)


def test_what_a_holder_says_too_late_is_compared_all_the_same() -> None:
    """2 tells 1 a false decision on the shard that it holds with 3, whose digest comes after the step was applied."""
    with member(1) as group:
        vote, record = after_the_ballots(group)
        true = decisions_of(3)[1]
        false = bytes([*true[:-1], true[-1] ^ 1])
        said(group, 2, 1, false)
        said(group, 3, 2, decisions_of(3)[2])
        entry = delivery.deliver(vote, record)
        assert entry is not None and entry.decisions[1] == false
        Learner(group, False, vote.ballot).replay(entry)
        late = arrived(group, Kind.DIGEST, 3, SHARD.pack(1) + digest_of(false))
        group.inbox.put(late)
        assert group.take(0.0) is not None
        group.inbox.put(arrived(group, Kind.DIGEST, 3, SHARD.pack(1) + digest_of(true)))
        with pytest.raises(Equivocation, match="something else than was applied here"):
            group.take(0.0)


def test_another_history_is_found_with_the_next_ballot() -> None:
    with member(1) as group, member(2) as other:
        vote = Round(group, group.replica.vote(group.slot))
        assert other.sharding is not None
        other.sharding.history = bytes(DIGEST_BYTES - 1) + b"x"
        tray = Round(other, other.replica.vote(other.slot)).tray
        with pytest.raises(Equivocation, match="worker 1 says that it has applied other decisions"):
            vote.hear_ballot(Arrived(group.mesh.links[2], tray.frame(2, 1)))


def test_a_shard_whose_last_holder_died_is_lost_after_the_deadline() -> None:
    with member(1, WITHOUT_US) as group:
        own = delivering(group)
        own.vote.agreement.lacks[3] = frozenset({1})
        group.mesh.links.pop(2)
        group.mesh.links.pop(3)
        with pytest.raises(ShardLost, match="Nobody that is left knows the decision on shard 1 of step 0"):
            own.run()


def test_who_lacks_the_memory_is_not_waited_for() -> None:
    with member(1, WITHOUT_US) as group:
        own = delivering(group)
        own.vote.agreement.lacks[3] = frozenset({1})
        group.inbox.put(Closed(group.mesh.links[2]))
        with pytest.raises(ShardLost):
            own.run()


def test_who_asks_is_told_each_shard_once() -> None:
    with member(1) as group:
        own = delivering(group)
        own._decide()
        before = len(sent(group, 3, Kind.DECISION))
        own._handle(arrived(group, Kind.WANT, 3, bytes(2000)))
        assert len(sent(group, 3, Kind.DECISION)) == before + 1


def test_strangers_and_others_than_holders_decide_nothing() -> None:
    with member(1, WITHOUT_US) as group:
        own = delivering(group)
        own.vote.agreement.lacks[3] = own.vote.agreement.lacks[2] = frozenset({1})
        size = own.sharding.decision_bytes(group.slot, 1)
        stranger = Played(Member(77, 9))
        own._handle(Arrived(stranger, frame(Kind.DECISION, 77, SHARD.pack(1) + bytes(size))))
        own._handle(arrived(group, Kind.DIGEST, 2, SHARD.pack(9) + bytes(DIGEST_BYTES)))
        assert 1 not in own.found and group.tallies.workers[1].malformed == 1


def test_what_comes_ahead_is_kept_up_to_a_limit() -> None:
    with member(1) as group:
        vote = Round(group, group.replica.vote(group.slot))
        for _ in range(2 * KEPT_EARLY):
            vote._handle(arrived(group, Kind.DECISION, 3, b"x"))
        assert len(vote.ahead) == KEPT_EARLY


@pytest.mark.parametrize("kind", [Kind.DECISION, Kind.DIGEST, Kind.WANT, Kind.MEMORY])
def test_a_replicated_run_counts_frames_of_sharded_ones(kind: Kind) -> None:
    with member(1, sharded=False) as group:
        vote = Round(group, group.replica.vote(group.slot))
        vote._handle(arrived(group, kind, 2, b""))
        assert group.tallies.workers[1].malformed == 1 and vote.agreement.decision is None


def test_a_memory_is_taken_from_its_giver_only() -> None:
    with member(1) as group, member(2) as other:
        assert group.sharding is not None and other.sharding is not None
        group.sharding.moves = ((0, 1),)
        raw = other.sharding.to_bytes(0)
        del group.sharding.memories[0]
        moving.fill(group, arrived(group, Kind.MEMORY, 3, raw))
        assert group.lacks == {0} and group.tallies.workers[2].malformed == 1
        for wrong in (b"", b"\x00", raw[:-20], SHARD.pack(0) + b"garbage"):
            moving.fill(group, arrived(group, Kind.MEMORY, 2, wrong))
        assert group.lacks == {0} and group.tallies.workers[1].malformed == 4
        moving.fill(group, arrived(group, Kind.MEMORY, 2, raw))
        assert not group.lacks


@pytest.mark.parametrize("holders", [(), ((1,),), ((1, 1), (2,), (3,)), ((1, 9), (2,), (3,)), ((), (2,), (3,))])
def test_entries_and_states_with_impossible_holders_are_refused(holders: Holders) -> None:
    with member(1) as group:
        learner = Learner(group, False)
        learner._teacher = group.mesh.links[2]
        members = tuple(group.members.values())
        record = Record(Slot(), Outcome.VOID, members=members, holders=holders)
        learner._handle(arrived(group, Kind.ENTRY, 2, Decided(record).pack()))
        learner._teacher = group.mesh.links[2]
        state = Parcel(1, Slot(5), members, {}, group.replica.snapshot(), holders=holders)
        learner._handle(arrived(group, Kind.STATE, 2, state.pack(), Slot(5)))
        assert group.slot == Slot() and group.tallies.workers[1].malformed == 2


def test_a_false_head_in_anothers_name_is_displaced_by_its_own_and_counted() -> None:
    with member(1, WITHOUT_US) as group, member(2, WITHOUT_US) as other:
        vote = Round(group, group.replica.vote(group.slot))
        tray = Round(other, other.replica.vote(other.slot)).tray
        head = 8 + DIGEST_BYTES * 4
        false = frame(Kind.BALLOT, 2, b"\x07" * head)
        vote._handle(Arrived(group.mesh.links[3], false))
        vote._handle(Arrived(group.mesh.links[2], tray.frame(2, 1)))
        assert vote.agreement.held[2] == tray.name(2) and group.tallies.workers[2].forged == 1


@pytest.mark.parametrize("name", ["dist-ef-sgdm", "ef-signsgd", "sgd", "dropsignsgd"])
def test_decisions_and_memories_fit_into_their_frames(name: str) -> None:
    model = nn.Linear(1000, 500, bias=False)
    replica = Replica(model, torch.optim.SGD(model.parameters(), 0.1), algorithms.create(name), 0, 0, None)
    sharding = Sharding(replica, 2)
    limits = limits_of(replica, sharding)
    for shard in range(2):
        for step in range(5):
            assert SHARD.size + sharding.decision_bytes(Slot(step), shard) <= limits[Kind.DECISION]
        assert len(sharding.to_bytes(shard)) + SPARE_BYTES <= limits[Kind.MEMORY] + SPARE_BYTES


def test_a_checkpoint_of_another_number_of_shards_is_refused() -> None:
    with member(1) as group:
        assert group.sharding is not None
        saved = group.sharding.state_dict(Slot())
        assert group.sharding.opened(saved, Slot(7)).keys() == {0, 2}
        for wrong in (None, {}, {**saved, "num": 2}):
            with pytest.raises(ValueError, match="here there are 3: one for each worker"):
                group.sharding.opened(wrong, Slot())
        with pytest.raises(ValueError, match="the memory of shard 0"):
            group.sharding.opened({"num": 3, "memories": {"0": saved["memories"]["2"]}}, Slot())
