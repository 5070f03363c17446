"""Who answers slowly is reached in the end, who is silent holds up nobody, and who gives up is no offender."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.net import dialing
from gradvote.engines.elastic.net.channels import Channel
from gradvote.engines.elastic.net.connections import Opened
from gradvote.engines.elastic.net.dialing import Dialling
from gradvote.engines.elastic.net.frames import FrameKind
from gradvote.engines.elastic.net.gate import GIVEN_UP, OFFENCES, Gate
from gradvote.engines.elastic.net.greetings import Hello, hear
from gradvote.engines.elastic.net.mesh import Mesh
from gradvote.engines.elastic.stores.opening import storage_on

RECIPE = 77


@contextmanager
def dialling(*answers_after: float) -> Iterator[Mesh]:
    """A worker that dials workers 0, 1, ..., each of which needs so many seconds to answer."""
    register, servers = Register(storage_on(HashStore())), []
    for number, seconds in enumerate(answers_after):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        own = Member(register.ticket(), number)
        register.publish(Presence(own.ticket, number, "127.0.0.1", server.getsockname()[1], 0, ""))
        threading.Thread(target=answer, args=(server, own, seconds), daemon=True).start()
    me = Member(register.ticket(), len(servers))
    mesh = Mesh(register, "127.0.0.1", RECIPE, queue.SimpleQueue(), dict.fromkeys(FrameKind, 1000))
    mesh.start(me)
    try:
        yield mesh
    finally:
        mesh.stop()
        for server in servers:
            server.close()


def answer(server: socket.socket, own: Member, seconds: float) -> None:
    """Each connection is answered so late."""
    with suppress(OSError):
        while True:
            sock, _ = server.accept()
            threading.Thread(target=greet, args=(sock, own, seconds), daemon=True).start()


def greet(sock: socket.socket, own: Member, seconds: float) -> None:
    with suppress(OSError):
        greeting = hear(Channel(sock))
        time.sleep(seconds)
        Channel(sock).send_frame(Hello(own, greeting.member.ticket, RECIPE).frame())


def test_who_answers_slowly_is_connected_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times as slow as anyone waits for at first."""
    monkeypatch.setattr(dialing, "ANSWERING", 0.3)
    with dialling(0.9) as mesh:
        assert isinstance(mesh._inbox.get(timeout=15), Opened)
        assert [c.peer.number for c in mesh.connections.values()] == [0]


def test_who_is_silent_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "ANSWERING", 30.0)
    with dialling(0.0, 60.0, 60.0) as mesh:  # the latest are dialled first
        assert isinstance(mesh._inbox.get(timeout=8), Opened)
        assert [c.peer.number for c in mesh.connections.values()] == [0]


def test_patience_grows_to_a_limit_and_falls_back() -> None:
    own = Dialling()
    seconds = []
    for _ in range(5):
        seconds.append((own.connecting(7), own.answering(7)))
        own.too_short(7)
    assert seconds == [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (2.0, 4.0), (2.0, 4.0)]
    assert own.answering(8) == 1.0
    own.answers(7)
    assert own.answering(7) == 1.0


def test_few_are_dialled_at_a_time_and_each_one_once() -> None:
    own, calls, done = Dialling(), [], threading.Event()
    for ticket in (*range(dialing.AT_ONCE + 5), 0, 1):
        own.begin(ticket, lambda ticket=ticket: (calls.append(ticket), done.wait(10)))  # type: ignore[misc]
    end = time.monotonic() + 8
    while len(calls) < dialing.AT_ONCE and time.monotonic() < end:
        time.sleep(0.01)
    assert sorted(calls) == list(range(dialing.AT_ONCE))
    done.set()
    while own._busy and time.monotonic() < end:
        time.sleep(0.01)
    own.begin(0, lambda: calls.append(0))
    while calls.count(0) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert calls.count(0) == 2 and own.begun(0) > own.begun(1)


def test_who_gives_up_is_no_offender_unless_again_and_again() -> None:
    """A worker whose machine is busy ends handshakes unproven; who does so without end is not heard for a while."""
    gate = Gate()
    for _ in range(OFFENCES):
        gate.gave_up("too slow", "203.0.113.9")
    assert gate.knocks("203.0.113.9") and gate.refused["too slow"] == OFFENCES
    for _ in range(GIVEN_UP):
        gate.gave_up("not proven", "203.0.113.9")
    assert not gate.knocks("203.0.113.9")
    for _ in range(OFFENCES):
        gate.refuse("not proven", "203.0.113.8")
    assert not gate.knocks("203.0.113.8")
