"""Votes that arrive before a founder knows that it is one: others may have begun already."""

import queue
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.distributed import HashStore

from gradvote import algorithms
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic import bootstrap
from gradvote.engines.elastic.catch_up.learning import Learner
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.counts import RunCounts
from gradvote.engines.elastic.membership import Membership
from gradvote.engines.elastic.net.channels import Channel
from gradvote.engines.elastic.net.connections import Arrived, Connection, Event
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.net.local_processes import own_name
from gradvote.engines.elastic.net.mesh import Mesh
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.peers import Peers
from gradvote.engines.elastic.servers.replicated import Replicated
from gradvote.engines.elastic.signing.names import Naming, PlainNames
from gradvote.engines.elastic.stores.opening import storage_on
from gradvote.engines.elastic.timeouts import Timeouts, TooFewWorkers

ME, PEER = Member(1, 0), Member(2, 1)


@contextmanager
def one_with_a_peer(naming: Naming | None = None) -> Iterator[tuple[Participant, Connection]]:
    """A process that has not joined yet, and its connection to another one."""
    model = nn.Linear(3, 2)
    replica = Replica(model, torch.optim.SGD(model.parameters(), 0.1), algorithms.create("signum"), 0, 0, None)
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    register = Register(storage_on(HashStore()))
    mesh = Mesh(register, "127.0.0.1", 0, inbox, {})
    counts = RunCounts()
    membership = Membership(replica.number, naming or PlainNames(), counts)
    membership.begin(ME.ticket)
    node = Node(membership, Peers(mesh, inbox), register, 2, Timeouts(), counts)
    own = Participant(node, Replicated(replica))
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    mesh.connections[PEER.ticket] = connection = Connection(Channel(here), PEER, inbox, {})
    try:
        yield own, connection
    finally:
        mesh.stop()
        here.close()
        there.close()


def found_both(own: Participant) -> None:
    own.node.register.found(1, Record(Slot(), Outcome.VOID, members=(ME, PEER)))


def while_learning(own: Participant) -> None:
    """The founder still looks for somebody to learn from; it learns that it is a founder after it took the event."""
    found_both(own)
    assert not Learner(own, fresh=True).run(founded=own.node.peers._inbox.empty)


def before_that(own: Participant) -> None:
    """The same, one event earlier."""
    answers = iter([False, True])
    assert not Learner(own, fresh=True).run(founded=lambda: next(answers))
    found_both(own)


def while_waiting(own: Participant) -> None:
    """It waits for the number of founders that is expected."""
    bootstrap._hear(own)
    found_both(own)


def while_others_connect(own: Participant) -> None:
    """It is a founder by now, and gives the others time to reach each other."""
    found_both(own)
    own.enter(1, Slot(), (ME, PEER, Member(3, 2)), {})
    own.node.mesh.ended.add(4)
    while not own.node.peers._inbox.empty():
        bootstrap._hear(own)


@pytest.mark.parametrize("kind", [FrameKind.BALLOT, FrameKind.HELD, FrameKind.RECORD])
@pytest.mark.parametrize("meanwhile", [while_learning, before_that, while_waiting, while_others_connect])
def test_no_vote_is_lost_before_a_founder_begins(meanwhile: Callable[[Participant], None], kind: FrameKind) -> None:
    with one_with_a_peer() as (own, connection):
        event = Arrived(connection, Frame(kind, PEER.ticket, Slot(), b"vote"))
        own.node.peers._inbox.put(event)
        meanwhile(own)
        if not own.node.inside:
            assert bootstrap._began(own)
        assert own.node.peers.due(own.node.slot) == [event]


def test_who_may_still_be_at_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """All have died, and another program listens at the port of one of them: that does not prove that it has ended."""
    with one_with_a_peer() as (own, _), socket.create_server(("127.0.0.1", 0)) as other:
        register, mesh, port = own.node.register, own.node.mesh, other.getsockname()[1]
        for _ in range(4):
            register.ticket()
        register.publish(Presence(3, 2, "127.0.0.1", port, 7, ""))
        mesh.me, mesh.probing = Member(4, 0), True
        monkeypatch.setattr("gradvote.engines.elastic.net.dialing.ANSWERING", 0.1)
        mesh._try(next(mesh._missing()))
        assert not bootstrap._doubtful(own.node)  # there was no group before
        found_both(own)
        assert not bootstrap._may_found(own.node, 2, 1000.0)
        text = (
            f"2 workers came together within 300 s, but worker 2 may still be at work from before, at 127.0.0.1:{port}"
        )
        with pytest.raises(TooFewWorkers, match=text):
            bootstrap._check(own.node, time.monotonic() - 1000)
        other.close()
        mesh._try(next(mesh._missing()))
        assert bootstrap._may_found(own.node, 2, 1000.0)


@pytest.mark.skipif(not own_name(), reason="this system does not say when processes started")
def test_another_program_at_the_port_of_a_dead_process_of_this_machine_holds_nobody_up() -> None:
    """The system says that it has ended: its number is another process's by now. Attempts that failed are forgotten."""
    whereabouts, pid, started = own_name().split("/")
    with one_with_a_peer() as (own, _), socket.create_server(("127.0.0.1", 0)) as other:
        register, mesh = own.node.register, own.node.mesh
        for _ in range(4):
            register.ticket()
        gone = f"{whereabouts}/{pid}/{int(started) - 1}"
        register.publish(Presence(3, 2, "127.0.0.1", other.getsockname()[1], 7, "", process=gone))
        mesh.me, mesh.probing, mesh.unproven[3] = Member(4, 0), True, (2, "it does not answer", 20)
        found_both(own)
        assert not bootstrap._may_found(own.node, 2, 1000.0)
        mesh._try(next(mesh._missing()))
        assert bootstrap._may_found(own.node, 2, 1000.0) and not mesh.unproven


def test_what_was_altered_is_not_kept() -> None:
    with one_with_a_peer() as (own, connection):
        own.node.peers._inbox.put(
            Arrived(connection, Frame(FrameKind.BALLOT, PEER.ticket, Slot(), b"vote", sound=False))
        )
        bootstrap._hear(own)
        assert own.node.peers._early == [] and own.node.counts.workers[PEER.number].corrupted == 1
