"""Placement `replicated`: every worker gets all ballots, and is the server for itself."""

from collections.abc import Mapping
from typing import Any

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.ballot_box import CHECK_BYTES, BallotBox, WholeBallots
from gradvote.engines.elastic.consensus.records import Record
from gradvote.engines.elastic.consensus.shard_assignment import Holders, Moves
from gradvote.engines.elastic.net.connections import Arrived, Connection
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.servers.server import OpenRound, Server, check_step, limits_of
from gradvote.engines.elastic.snapshots import DecidedStep, Snapshot, Step, decided_step_from


class Replicated(Server):
    """The whole memory is in the replica; nothing is owed to anyone."""

    mark, num_shards, history = 0, 0, b""
    holders: Holders = ()
    moves: Moves = ()

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    def limits(self) -> dict[FrameKind, int]:
        return limits_of(self.replica)

    def ballot_box(self, node: Node, ballot: Ballot) -> BallotBox:
        return WholeBallots(self.replica, node.naming, node.slot, node.me, node.generation, ballot)

    def settle(self, vote: OpenRound, record: Record) -> Step | None:
        assert isinstance(vote.box, WholeBallots)
        if any(vote.agreement.held.get(t) != name for t, name in record.counted.items()):
            return None
        return DecidedStep(record, vote.box.bodies(record.counted))

    def given_up(self, record: Record) -> Step:
        return DecidedStep(record, {})

    def read(self, node: Node, frame: Frame) -> Step:
        step = decided_step_from(frame.body, node.naming.name)
        check_step(step, frame, len(step.bodies))
        for ticket, body in step.bodies.items():
            member = node.members.get(ticket)
            if member is None or len(body) != self._body_bytes(node, frame.slot, member.number):
                raise ValueError(f"A step has no ballot of a member where it counts that of process {ticket}.")
        return step

    def apply(self, node: Node, step: Step) -> None:
        assert isinstance(step, DecidedStep)
        members = node.members
        ballots = {members[t].number: memoryview(node.naming.ballot(body)) for t, body in step.bodies.items()}
        bodies = {number: ballot[CHECK_BYTES:] for number, ballot in ballots.items()}
        self.replica.apply(step.record.slot, bodies)

    def enter(self, node: Node, holders: Holders, moves: Moves) -> None:
        pass

    def go_on(self, node: Node, record: Record) -> None:
        pass

    def lacks(self, node: Node) -> frozenset[int]:
        return frozenset()

    def give(self, node: Node) -> None:
        pass

    def is_needed(self, node: Node) -> bool:
        return False

    def hear(self, node: Node, event: Arrived) -> bool:
        node.fault(event, "malformed", "has no meaning in a run whose server is not sharded")
        return False

    def hear_past(self, node: Node, connection: Connection, frame: Frame) -> None:
        pass

    def begin(self, generation: int) -> None:
        pass

    def check(self, snapshot: Snapshot) -> None:
        pass

    def restore(self, snapshot: Snapshot) -> None:
        pass

    def names(self, slot: Slot) -> dict[str, str]:
        return {}

    def state_dict(self, slot: Slot) -> dict[str, Any]:
        return self.replica.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], slot: Slot) -> None:
        self.replica.load_state_dict(state)

    def _body_bytes(self, node: Node, slot: Slot, number: int) -> int:
        return CHECK_BYTES + self.replica.ballot_bytes(slot, number) + node.naming.extra_bytes
