"""What may come from peers between ballots and decision: one process, without threads, whose peers are played."""

import struct

import pytest
import torch
from torch import nn

from gradvote import algorithms
from gradvote.elastic import Equivocation, ShardLost
from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.catch_up.learning import Learner
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.shard_assignment import SHARD, Holders
from gradvote.engines.elastic.net.connections import Arrived, Closed
from gradvote.engines.elastic.net.frames import FrameKind
from gradvote.engines.elastic.peers import KEPT_EARLY
from gradvote.engines.elastic.servers import shard_transfer
from gradvote.engines.elastic.servers.cut_ballots import digests_at
from gradvote.engines.elastic.servers.server import SPARE_BYTES
from gradvote.engines.elastic.servers.sharded import Sharded
from gradvote.engines.elastic.snapshots import ShardedStep, Snapshot
from gradvote.engines.elastic.voting import VotingRound
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
    shards_of,
)


def test_the_holders_of_a_shard_decide_alike() -> None:
    first, second, third = decisions_of(1), decisions_of(2), decisions_of(3)
    assert first.keys() == {0, 2} and second.keys() == {0, 1} and third.keys() == {1, 2}
    assert first[0] == second[0] and second[1] == third[1] and third[2] == first[2]


@pytest.mark.parametrize("kind", [FrameKind.DECISION, FrameKind.DIGEST])
def test_a_holder_that_says_something_else_stops_the_step_for_good(kind: FrameKind) -> None:
    with member(1) as own:
        vote, record = after_the_ballots(own)
        true = decisions_of(2)[0]
        false = bytes([*true[:-1], true[-1] ^ 1])
        said(own, 2, 0, false if kind == FrameKind.DECISION else digest_of(false), kind)
        for _ in range(2):
            with pytest.raises(
                Equivocation, match="worker 0 and worker 1 said different things of the decision on shard 0"
            ):
                vote.settle(record) if vote.stopped is None else vote.run()
        assert own.node.slot == Slot() and own.server.replica.worker is not vote.ballot.after


def test_other_learning_rates_are_found_before_anything_is_applied() -> None:
    with member(1) as own:
        vote, record = after_the_ballots(own)
        said(own, 3, 2, decisions_of(3)[2])
        said(own, 2, 1, struct.pack("<d", 9e9) + decisions_of(2)[1][8:])
        with pytest.raises(Equivocation, match="said different things of the learning rates"):
            vote.settle(record)


def test_what_a_holder_says_too_late_is_compared_all_the_same() -> None:
    """2 tells 1 a false decision on the shard that it holds with 3, whose digest comes after the step was applied."""
    with member(1) as own:
        vote, record = after_the_ballots(own)
        true = decisions_of(3)[1]
        false = bytes([*true[:-1], true[-1] ^ 1])
        said(own, 2, 1, false)
        said(own, 3, 2, decisions_of(3)[2])
        entry = vote.settle(record)
        assert isinstance(entry, ShardedStep) and entry.decisions[1] == false
        Learner(own, False, vote.ballot).replay(entry)
        late = arrived(own, FrameKind.DIGEST, 3, SHARD.pack(1) + digest_of(false))
        own.node.peers._inbox.put(late)
        assert own.take(0.0) is not None
        own.node.peers._inbox.put(arrived(own, FrameKind.DIGEST, 3, SHARD.pack(1) + digest_of(true)))
        with pytest.raises(Equivocation, match="something else than was applied here"):
            own.take(0.0)


def test_another_history_is_found_with_the_next_ballot() -> None:
    with member(1) as own, member(2) as other:
        vote = VotingRound(own, own.server.replica.vote(own.node.slot))
        shards_of(other).history = bytes(DIGEST_BYTES - 1) + b"x"
        box = VotingRound(other, other.server.replica.vote(other.node.slot)).box
        with pytest.raises(Equivocation, match="worker 1 says that it has applied other decisions"):
            vote.hear_ballot(Arrived(own.node.mesh.connections[2], box.frame(2, 1)))


def test_a_shard_whose_last_holder_died_is_lost_where_too_few_are_left() -> None:
    with member(1, WITHOUT_US) as own:
        task = delivering(own)
        task.vote.agreement.lacks[3] = frozenset({1})
        own.node.mesh.connections.pop(2)
        own.node.mesh.connections.pop(3)
        with pytest.raises(ShardLost, match="Nobody that is left knows the decision on shard 1 of step 0"):
            task.run()


def test_who_lacks_the_memory_is_not_waited_for() -> None:
    with member(1, WITHOUT_US) as own:
        task = delivering(own)
        task.vote.agreement.lacks[3] = frozenset({1})
        own.node.peers._inbox.put(Closed(own.node.mesh.connections[2]))
        with pytest.raises(ShardLost):
            task.run()


def test_who_asks_is_told_each_shard_once() -> None:
    with member(1) as own:
        task = delivering(own)
        task._decide()
        before = len(sent(own, 3, FrameKind.DECISION))
        task._handle(arrived(own, FrameKind.WANT, 3, bytes(2000)))
        assert len(sent(own, 3, FrameKind.DECISION)) == before + 1


def test_strangers_and_others_than_holders_decide_nothing() -> None:
    with member(1, WITHOUT_US) as own:
        task = delivering(own)
        task.vote.agreement.lacks[3] = task.vote.agreement.lacks[2] = frozenset({1})
        size = task.shards.decision_bytes(own.node.slot, 1)
        stranger = Played(Member(77, 9))
        task._handle(Arrived(stranger, frame(FrameKind.DECISION, 77, SHARD.pack(1) + bytes(size))))
        task._handle(arrived(own, FrameKind.DIGEST, 2, SHARD.pack(9) + bytes(DIGEST_BYTES)))
        task._handle(arrived(own, FrameKind.WHOLE, 2, bytes(DIGEST_BYTES + 1)))
        task._handle(Arrived(stranger, frame(FrameKind.WHOLE, 77, bytes(DIGEST_BYTES))))
        assert 1 not in task.found and own.node.counts.workers[1].malformed == 2
        assert not task.confirming.state.heard


def test_what_comes_ahead_is_kept_up_to_a_limit() -> None:
    with member(1) as own:
        vote = VotingRound(own, own.server.replica.vote(own.node.slot))
        for _ in range(2 * KEPT_EARLY):
            vote._handle(arrived(own, FrameKind.DECISION, 3, b"x"))
        assert len(vote.ahead) == KEPT_EARLY


@pytest.mark.parametrize(
    "kind", [FrameKind.DECISION, FrameKind.DIGEST, FrameKind.WANT, FrameKind.WHOLE, FrameKind.MEMORY]
)
def test_a_replicated_run_counts_frames_of_sharded_ones(kind: FrameKind) -> None:
    with member(1, sharded=False) as own:
        vote = VotingRound(own, own.server.replica.vote(own.node.slot))
        vote._handle(arrived(own, kind, 2, b""))
        assert own.node.counts.workers[1].malformed == 1 and vote.agreement.decision is None


def test_a_memory_is_taken_from_its_giver_only() -> None:
    with member(1) as own, member(2) as other:
        shards_of(own).moves = ((0, 1),)
        raw = shards_of(other).to_bytes(0)
        del shards_of(own).memories[0]
        shard_transfer.fill(own.node, shards_of(own), arrived(own, FrameKind.MEMORY, 3, raw))
        assert own.server.lacks(own.node) == {0} and own.node.counts.workers[2].malformed == 1
        for wrong in (b"", b"\x00", raw[:-20], SHARD.pack(0) + b"garbage"):
            shard_transfer.fill(own.node, shards_of(own), arrived(own, FrameKind.MEMORY, 2, wrong))
        assert own.server.lacks(own.node) == {0} and own.node.counts.workers[1].malformed == 4
        shard_transfer.fill(own.node, shards_of(own), arrived(own, FrameKind.MEMORY, 2, raw))
        assert not own.server.lacks(own.node)


@pytest.mark.parametrize("holders", [(), ((1,),), ((1, 1), (2,), (3,)), ((1, 9), (2,), (3,)), ((), (2,), (3,))])
def test_entries_and_states_with_impossible_holders_are_refused(holders: Holders) -> None:
    with member(1) as own:
        learner = Learner(own, False)
        learner._teacher = own.node.mesh.connections[2]
        members = tuple(own.node.members.values())
        record = Record(Slot(), Outcome.VOID, members=members, holders=holders)
        learner._handle(arrived(own, FrameKind.STEP, 2, ShardedStep(record).pack()))
        learner._teacher = own.node.mesh.connections[2]
        state = Snapshot(1, Slot(5), members, {}, own.server.replica.snapshot(), holders=holders)
        learner._handle(arrived(own, FrameKind.SNAPSHOT, 2, state.pack(), Slot(5)))
        assert own.node.slot == Slot() and own.node.counts.workers[1].malformed == 2


def test_a_false_head_in_anothers_name_is_displaced_by_its_own_and_counted() -> None:
    with member(1, WITHOUT_US) as own, member(2, WITHOUT_US) as other:
        vote = VotingRound(own, own.server.replica.vote(own.node.slot))
        box = VotingRound(other, other.server.replica.vote(other.node.slot)).box
        head = digests_at(8) + DIGEST_BYTES * 3
        false = frame(FrameKind.BALLOT, 2, b"\x07" * head)
        vote._handle(Arrived(own.node.mesh.connections[3], false))
        vote._handle(Arrived(own.node.mesh.connections[2], box.frame(2, 1)))
        assert vote.agreement.held[2] == box.name(2) and own.node.counts.workers[2].forged == 1


@pytest.mark.parametrize("name", ["dist-ef-sgdm", "ef-signsgd", "sgd", "dropsignsgd"])
def test_decisions_and_memories_fit_into_their_frames(name: str) -> None:
    model = nn.Linear(1000, 500, bias=False)
    replica = Replica(model, torch.optim.SGD(model.parameters(), 0.1), algorithms.create(name), 0, 0, None)
    server = Sharded(replica, 2)
    limits, shards = server.limits(), server.shards
    for shard in range(2):
        for step in range(5):
            assert SHARD.size + shards.decision_bytes(Slot(step), shard) <= limits[FrameKind.DECISION]
        assert len(shards.to_bytes(shard)) + SPARE_BYTES <= limits[FrameKind.MEMORY] + SPARE_BYTES


def test_a_checkpoint_of_another_number_of_shards_is_refused() -> None:
    with member(1) as own:
        saved = shards_of(own).state_dict(Slot())
        assert shards_of(own).opened(saved, Slot(7)).keys() == {0, 2}
        for wrong in (None, {}, {**saved, "num": 2}):
            with pytest.raises(ValueError, match="here there are 3: one for each worker"):
                shards_of(own).opened(wrong, Slot())
        with pytest.raises(ValueError, match="the memory of shard 0"):
            shards_of(own).opened({"num": 3, "memories": {"0": saved["memories"]["2"]}}, Slot())
