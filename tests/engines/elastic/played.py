"""A member of a sharded run in one process, without threads: the test plays its peers."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import algorithms
from gradvote.elastic import Timeouts
from gradvote.engines.elastic import delivery
from gradvote.engines.elastic.frames import Frame, Kind, digest_of
from gradvote.engines.elastic.group import Group
from gradvote.engines.elastic.holders import SHARD, Holders
from gradvote.engines.elastic.links import Arrived, Inbox, Link
from gradvote.engines.elastic.mesh import Mesh
from gradvote.engines.elastic.records import Member, Record, Slot, held_to_json
from gradvote.engines.elastic.register import Register
from gradvote.engines.elastic.replica import Replica
from gradvote.engines.elastic.rounds import Round
from gradvote.engines.elastic.sharding import Sharding
from gradvote.engines.elastic.trays import Cut

HOLDERS = ((1, 2), (2, 3), (3, 1))
WITHOUT_US = ((1, 2), (2, 3), (1, 3))
TIMES = Timeouts(0.3, 0.05, 1.0, 2.0)


class Played(Link):
    """A link whose other end is the test."""

    def __init__(self, peer: Member) -> None:
        self.peer, self.sent, self.limits = peer, list[Frame](), {}
        self.bytes_sent = self.bytes_received = 0

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def withdraw(self, kind: Kind) -> None:
        self.sent = [frame for frame in self.sent if frame.kind != kind]

    def finish(self) -> None:
        pass


@contextmanager
def member(me: int, holders: Holders = HOLDERS, sharded: bool = True) -> Iterator[Group]:
    """A member of three, with ticket `me`, before its first slot."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    algorithm = algorithms.create("dist-ef-sgdm")
    replica = Replica(model, torch.optim.SGD(model.parameters(), 0.1), algorithm, me - 1, 0, None)
    for p in replica.params:
        p.grad = torch.full_like(p, float(me))
    inbox: Inbox = queue.SimpleQueue()
    register = Register(HashStore())
    mesh = Mesh(register, "127.0.0.1", 0, inbox, {})
    group = Group(replica, register, mesh, inbox, 2, TIMES, None, Sharding(replica, 3) if sharded else None)
    group.me = Member(me, me - 1)
    for ticket in {1, 2, 3} - {me}:
        mesh.links[ticket] = Played(Member(ticket, ticket - 1))
    group.enter(1, Slot(), [Member(t, t - 1) for t in (1, 2, 3)], {}, holders if sharded else ())
    try:
        yield group
    finally:
        mesh.stop()


def frame(kind: Kind, author: int, body: bytes, slot: Slot = Slot()) -> Frame:  # noqa: B008  # a value
    return Frame(kind, author, slot, body, digest_of(body))


def arrived(group: Group, kind: Kind, peer: int, body: bytes, slot: Slot = Slot()) -> Arrived:  # noqa: B008  # a value
    return Arrived(group.mesh.links[peer], frame(kind, peer, body, slot))


def after_the_ballots(group: Group) -> tuple[Round, Record]:
    """A round in which everyone's ballots are here, and all have said so."""
    vote = Round(group, group.replica.vote(group.slot))
    names = {group.me.ticket: vote.tray.name(group.me.ticket)}
    assert group.sharding is not None
    for ticket, link in group.mesh.links.items():
        with member(ticket, group.sharding.holders) as other:
            tray = Round(other, other.replica.vote(other.slot)).tray
            group.inbox.put(Arrived(link, tray.frame(ticket, group.me.ticket)))
            names[ticket] = tray.name(ticket)
    for ticket in group.mesh.links:
        group.inbox.put(arrived(group, Kind.HELD, ticket, held_to_json(names, False).encode()))
    record = vote.run()
    assert record is not None and set(record.counted) == {1, 2, 3}
    return vote, record


def delivering(group: Group) -> delivery.Delivery:
    vote, record = after_the_ballots(group)
    assert isinstance(vote.tray, Cut) and group.sharding is not None
    return delivery.Delivery(vote, vote.tray, group.sharding, record)


def decisions_of(ticket: int, holders: Holders = HOLDERS) -> dict[int, bytes]:
    """What an honest member works out."""
    with member(ticket, holders) as other:
        own = delivering(other)
        assert own._decide()
        return own.found


def said(group: Group, ticket: int, shard: int, body: bytes, kind: Kind = Kind.DECISION) -> None:
    group.inbox.put(arrived(group, kind, ticket, SHARD.pack(shard) + body))


def sent(group: Group, ticket: int, kind: Kind) -> list[Frame]:
    link = group.mesh.links[ticket]
    assert isinstance(link, Played)
    return [frame for frame in link.sent if frame.kind == kind]
