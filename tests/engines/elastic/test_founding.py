"""Votes that arrive before a founder knows that it is one: others may have begun already."""

import queue
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.distributed import HashStore

from gradvote import algorithms
from gradvote.engines.elastic import founding
from gradvote.engines.elastic.frames import Frame, Kind
from gradvote.engines.elastic.group import Group
from gradvote.engines.elastic.learning import Learner
from gradvote.engines.elastic.links import Arrived, Event, Link
from gradvote.engines.elastic.mesh import Mesh
from gradvote.engines.elastic.records import Member, Outcome, Record, Slot
from gradvote.engines.elastic.register import Register
from gradvote.engines.elastic.replica import Replica
from gradvote.engines.elastic.timeouts import Timeouts

ME, PEER = Member(1, 0), Member(2, 1)


@contextmanager
def group_with_a_peer() -> Iterator[tuple[Group, Link]]:
    """A process that has not joined yet, and its link to another one."""
    model = nn.Linear(3, 2)
    replica = Replica(model, torch.optim.SGD(model.parameters(), 0.1), algorithms.create("signum"), 0, 0, None)
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    register = Register(HashStore())
    mesh = Mesh(register, "127.0.0.1", 0, inbox, {})
    group = Group(replica, register, mesh, inbox, 2, Timeouts())
    group.me = ME
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    mesh.links[PEER.ticket] = link = Link(here, PEER, inbox, {})
    try:
        yield group, link
    finally:
        mesh.stop()
        here.close()
        there.close()


def found_both(group: Group) -> None:
    group.register.found(1, Record(Slot(), Outcome.VOID, members=(ME, PEER)))


def while_learning(group: Group) -> None:
    """The founder still looks for somebody to learn from; it learns that it is a founder after it took the event."""
    found_both(group)
    assert not Learner(group, fresh=True).run(founded=group.inbox.empty)


def before_that(group: Group) -> None:
    """The same, one event earlier."""
    answers = iter([False, True])
    assert not Learner(group, fresh=True).run(founded=lambda: next(answers))
    found_both(group)


def while_waiting(group: Group) -> None:
    """It waits for the number of founders that is expected."""
    founding._hear(group)
    found_both(group)


def while_others_connect(group: Group) -> None:
    """It is a founder by now, and gives the others time to reach each other."""
    found_both(group)
    group.enter(1, Slot(), (ME, PEER, Member(3, 2)), {})
    group.mesh.ended.add(4)
    while not group.inbox.empty():
        founding._hear(group)


@pytest.mark.parametrize("kind", [Kind.BALLOT, Kind.HELD, Kind.RECORD])
@pytest.mark.parametrize("meanwhile", [while_learning, before_that, while_waiting, while_others_connect])
def test_no_vote_is_lost_before_a_founder_begins(meanwhile: Callable[[Group], None], kind: Kind) -> None:
    with group_with_a_peer() as (group, link):
        event = Arrived(link, Frame(kind, PEER.ticket, Slot(), b"vote"))
        group.inbox.put(event)
        meanwhile(group)
        if not group.inside:
            assert founding._began(group)
        assert group.now_due() == [event]


def test_what_was_altered_is_not_kept() -> None:
    with group_with_a_peer() as (group, link):
        group.inbox.put(Arrived(link, Frame(Kind.BALLOT, PEER.ticket, Slot(), b"vote", sound=False)))
        founding._hear(group)
        assert group.early == [] and group.tallies.workers[PEER.number].corrupted == 1
