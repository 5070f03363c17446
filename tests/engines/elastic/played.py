"""A member of a sharded run in one process, without threads: the test plays its peers."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import algorithms
from gradvote.elastic import Timeouts
from gradvote.engines.common.digests import digest_of
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Record, held_to_json
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.shard_assignment import SHARD, Holders
from gradvote.engines.elastic.counts import RunCounts
from gradvote.engines.elastic.membership import Membership
from gradvote.engines.elastic.net.connections import Arrived, Connection, Inbox
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.net.mesh import Mesh
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.peers import Peers
from gradvote.engines.elastic.servers import delivery
from gradvote.engines.elastic.servers.cut_ballots import CutBallots
from gradvote.engines.elastic.servers.replicated import Replicated
from gradvote.engines.elastic.servers.sharded import Sharded
from gradvote.engines.elastic.servers.shards import Shards
from gradvote.engines.elastic.signing.names import PlainNames
from gradvote.engines.elastic.stores.opening import storage_on
from gradvote.engines.elastic.voting import VotingRound

HOLDERS = ((1, 2), (2, 3), (3, 1))
WITHOUT_US = ((1, 2), (2, 3), (1, 3))
TIMES = Timeouts(0.3, 0.05, 1.0, 2.0)


class Played(Connection):
    """A connection whose other end is the test."""

    def __init__(self, peer: Member) -> None:
        self.peer, self.sent, self.limits = peer, list[Frame](), {}
        self.bytes_sent = self.bytes_received = 0

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def states_waiting(self) -> int:
        return 0

    def taken(self, frame: Frame) -> None:
        pass

    def withdraw(self, kind: FrameKind) -> None:
        self.sent = [frame for frame in self.sent if frame.kind != kind]

    def finish(self) -> None:
        pass


@contextmanager
def member(me: int, holders: Holders = HOLDERS, sharded: bool = True) -> Iterator[Participant]:
    """A member of three, with ticket `me`, before its first slot."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    algorithm = algorithms.create("dist-ef-sgdm")
    replica = Replica(model, torch.optim.SGD(model.parameters(), 0.1), algorithm, me - 1, 0, None)
    for p in replica.params:
        p.grad = torch.full_like(p, float(me))
    inbox: Inbox = queue.SimpleQueue()
    register = Register(storage_on(HashStore()))
    mesh = Mesh(register, "127.0.0.1", 0, inbox, {})
    counts = RunCounts()
    membership = Membership(replica.number, PlainNames(), counts)
    membership.begin(me)
    node = Node(membership, Peers(mesh, inbox), register, 2, TIMES, counts)
    own = Participant(node, Sharded(replica, 3) if sharded else Replicated(replica))
    for ticket in {1, 2, 3} - {me}:
        mesh.connections[ticket] = Played(Member(ticket, ticket - 1))
    own.enter(1, Slot(), [Member(t, t - 1) for t in (1, 2, 3)], {}, holders if sharded else ())
    try:
        yield own
    finally:
        mesh.stop()


def shards_of(own: Participant) -> Shards:
    """The memories of a member of a sharded run."""
    assert isinstance(own.server, Sharded)
    return own.server.shards


def frame(kind: FrameKind, author: int, body: bytes, slot: Slot = Slot()) -> Frame:  # noqa: B008  # a value
    return Frame(kind, author, slot, body, digest_of(body))


def arrived(own: Participant, kind: FrameKind, peer: int, body: bytes, slot: Slot = Slot()) -> Arrived:  # noqa: B008  # a value
    return Arrived(own.node.mesh.connections[peer], frame(kind, peer, body, slot))


def after_the_ballots(own: Participant) -> tuple[VotingRound, Record]:
    """A round in which everyone's ballots are here, and all have said so."""
    vote = VotingRound(own, own.server.replica.vote(own.node.slot))
    names = {own.node.me.ticket: vote.box.name(own.node.me.ticket)}
    for ticket, connection in own.node.mesh.connections.items():
        with member(ticket, shards_of(own).holders) as other:
            box = VotingRound(other, other.server.replica.vote(other.node.slot)).box
            own.node.peers._inbox.put(Arrived(connection, box.frame(ticket, own.node.me.ticket)))
            names[ticket] = box.name(ticket)
    for ticket in own.node.mesh.connections:
        own.node.peers._inbox.put(arrived(own, FrameKind.HELD, ticket, held_to_json(names, False).encode()))
    record = vote.run()
    assert record is not None and set(record.counted) == {1, 2, 3}
    return vote, record


def delivering(own: Participant) -> delivery.ShardDelivery:
    vote, record = after_the_ballots(own)
    assert isinstance(vote.box, CutBallots)
    return delivery.ShardDelivery(vote, vote.box, shards_of(own), record)


def decisions_of(ticket: int, holders: Holders = HOLDERS) -> dict[int, bytes]:
    """What an honest member works out."""
    with member(ticket, holders) as other:
        own = delivering(other)
        assert own._decide()
        return own.found


def said(own: Participant, ticket: int, shard: int, body: bytes, kind: FrameKind = FrameKind.DECISION) -> None:
    own.node.peers._inbox.put(arrived(own, kind, ticket, SHARD.pack(shard) + body))


def sent(own: Participant, ticket: int, kind: FrameKind) -> list[Frame]:
    connection = own.node.mesh.connections[ticket]
    assert isinstance(connection, Played)
    return [frame for frame in connection.sent if frame.kind == kind]
