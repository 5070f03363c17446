"""Placement `sharded`: each shard of the server's memory is with two workers; only they get its part of a ballot."""

from collections.abc import Mapping
from typing import Any

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.digests import digest_of
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.ballot_box import BallotBox
from gradvote.engines.elastic.consensus.records import Record
from gradvote.engines.elastic.consensus.shard_assignment import Holders, Moves
from gradvote.engines.elastic.net.connections import Arrived, Connection
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.servers import shard_transfer
from gradvote.engines.elastic.servers.cut_ballots import CutBallots
from gradvote.engines.elastic.servers.delivery import ShardDelivery
from gradvote.engines.elastic.servers.server import OpenRound, Server, check_step, limits_of
from gradvote.engines.elastic.servers.shards import Shards
from gradvote.engines.elastic.snapshots import ShardedStep, Snapshot, Step, sharded_step_from

MARK = 0x5368617264656421
"""Sets apart the recipes of sharded runs."""


class Sharded(Server):
    """`shards` are the memories; `num_shards` stays the same for ever."""

    def __init__(self, replica: Replica, num_shards: int) -> None:
        self.replica, self.shards = replica, Shards(replica, num_shards)
        self.mark, self.num_shards = MARK + num_shards, num_shards
        self._delivery: ShardDelivery | None = None

    @property
    def holders(self) -> Holders:
        return self.shards.holders

    @property
    def moves(self) -> Moves:
        return self.shards.moves

    @property
    def history(self) -> bytes:
        return self.shards.history

    def limits(self) -> dict[FrameKind, int]:
        limits, shards = limits_of(self.replica), range(self.num_shards)
        limits[FrameKind.DECISION] += 2 * max(self.shards.decision_bytes(Slot(), s) for s in shards)
        limits[FrameKind.MEMORY] += max(len(self.shards.to_bytes(s)) for s in shards)
        return limits

    def ballot_box(self, node: Node, ballot: Ballot) -> BallotBox:
        return CutBallots(self.shards, node.naming, node.slot, node.me, node.generation, ballot)

    def settle(self, vote: OpenRound, record: Record) -> Step | None:
        assert isinstance(vote.box, CutBallots)
        if not record.has(vote.node.me.ticket):
            ShardDelivery(vote, vote.box, self.shards, record).leave()
            return None  # it is no member any more
        if self._delivery is None or self._delivery.vote is not vote:
            self._delivery = ShardDelivery(vote, vote.box, self.shards, record)
        step, self._delivery = self._delivery.run(), None
        return step

    def given_up(self, record: Record) -> Step:
        return ShardedStep(record)

    def read(self, node: Node, frame: Frame) -> Step:
        step = sharded_step_from(frame.body)
        check_step(step, frame, len(step.decisions))
        record = step.record
        self.shards.check_holders(record.holders, record.moves, (m.ticket for m in record.members))
        if step.decisions:
            self.shards.check(record.slot, step.decisions)
        return step

    def apply(self, node: Node, step: Step) -> None:
        assert isinstance(step, ShardedStep)
        self.shards.follow(step.record.slot, step)

    def enter(self, node: Node, holders: Holders, moves: Moves) -> None:
        self.shards.hold(node.me.ticket, node.slot, holders, moves)
        shard_transfer.say_what_is_lost(node, self.shards)

    def go_on(self, node: Node, record: Record) -> None:
        if not record.applied:
            self.shards.keep_for(record.slot, record.next)
        self.enter(node, record.holders, record.moves)

    def lacks(self, node: Node) -> frozenset[int]:
        return self.shards.lacks(node.me.ticket, node.slot)

    def give(self, node: Node) -> None:
        shard_transfer.give(node, self.shards)

    def is_needed(self, node: Node) -> bool:
        return shard_transfer.is_needed(node)

    def hear(self, node: Node, event: Arrived) -> bool:
        if event.frame.kind == FrameKind.MEMORY:
            shard_transfer.fill(node, self.shards, event)
        return event.frame.kind != FrameKind.MEMORY

    def hear_past(self, node: Node, connection: Connection, frame: Frame) -> None:
        if frame.kind == FrameKind.WANT:
            shard_transfer.repeat(node, connection, frame)
        elif frame.kind in (FrameKind.DECISION, FrameKind.DIGEST):
            shard_transfer.compare(node, connection, frame)

    def begin(self, generation: int) -> None:
        self.shards.history = digest_of(f"group {generation}".encode())

    def check(self, snapshot: Snapshot) -> None:
        self.shards.check_holders(snapshot.holders, snapshot.moves, (m.ticket for m in snapshot.members))

    def restore(self, snapshot: Snapshot) -> None:
        self.shards.memories, self.shards.history = {}, snapshot.history

    def names(self, slot: Slot) -> dict[str, str]:
        return self.shards.digests(slot)

    def state_dict(self, slot: Slot) -> dict[str, Any]:
        return {**self.replica.state_dict(), "shards": self.shards.state_dict(slot)}

    def load_state_dict(self, state: Mapping[str, Any], slot: Slot) -> None:
        memories = self.shards.opened(state.get("shards"), slot)
        self.replica.load_state_dict(state)
        self.shards.memories = memories
