"""Whom a worker dials: who is slow is reached in the end, and who is silent holds up nobody else."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.net import dials, gate
from gradvote.engines.elastic.net.dials import Dials
from gradvote.engines.elastic.net.frames import FrameKind
from gradvote.engines.elastic.net.mesh import Mesh
from gradvote.engines.elastic.stores.opening import storage_on

LIMITS = dict.fromkeys(FrameKind, 1000)
PLACE = Presence(1, 0, "127.0.0.1", 1, 0, "")


@contextmanager
def worker(register: Register) -> Iterator[Mesh]:
    mesh = Mesh(register, "127.0.0.1", 77, queue.SimpleQueue(), LIMITS)
    ticket = register.ticket()
    register.publish(Presence(ticket, ticket - 1, mesh.host, mesh.port, 0, ""))
    mesh.start(Member(ticket, ticket - 1))
    yield mesh
    mesh.stop()


def soon(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_who_takes_longer_than_one_waits_at_first_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with more work than processors, or a link over a satellite: again and again the same time is needed."""
    monkeypatch.setattr(dials, "ANSWERING", 0.02)
    real = Mesh._check

    def slow(self: Mesh, *args: object, **named: object) -> None:
        time.sleep(0.2)
        real(self, *args, **named)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(Mesh, "_check", slow)
    register = Register(storage_on(HashStore()))
    with worker(register) as first, worker(register) as second:
        assert soon(lambda: bool(first.connections) and bool(second.connections))


def test_silent_places_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports that take connections and say nothing; they came later than the worker that answers: dialled first."""
    monkeypatch.setattr(dials, "ANSWERING", 60.0)
    monkeypatch.setattr(dials, "LONGEST", (60.0, 60.0))
    register = Register(storage_on(HashStore()))
    with ExitStack() as stack:
        first = stack.enter_context(worker(register))
        for number in range(dials.SIDE_BY_SIDE - 1):
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            register.publish(Presence(register.ticket(), 5 + number, "127.0.0.1", silent.getsockname()[1], 0, ""))
        last = stack.enter_context(worker(register))
        assert soon(lambda: 1 in last.connections and bool(first.connections))


def test_patience_doubles_with_each_time_out_up_to_a_limit_and_begins_anew() -> None:
    book = Dials(lambda place: None)
    found = [(book.patience(PLACE), book.failed(PLACE, TimeoutError()))[0] for _ in range(6)]
    assert found == [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (2.0, 5.0), (2.0, 5.0), (2.0, 5.0)]
    assert not book.failed(PLACE, ConnectionResetError())
    assert book.patience(replace(PLACE, ticket=2)) == (0.5, 1.0)
    book.answered(PLACE)
    assert book.patience(PLACE) == (0.5, 1.0) and dials.LONGEST[1] <= gate.PATIENCE


def test_each_is_dialled_once_at_a_time_and_the_one_tried_longest_ago_first() -> None:
    going, tried = threading.Event(), []

    def dial(place: Presence) -> None:
        tried.append(place.ticket)
        going.wait(20)

    book, places = Dials(dial), [replace(PLACE, ticket=ticket) for ticket in range(1, 12)]
    for _ in range(3):
        book.start(places)
    assert soon(lambda: len(tried) == dials.SIDE_BY_SIDE) and sorted(tried) == [*range(1, 9)]
    going.set()
    assert soon(lambda: not book._under_way)
    going.clear()
    book.start(places)
    assert soon(lambda: len(tried) == 2 * dials.SIDE_BY_SIDE) and {9, 10, 11} <= set(tried[8:])
    going.set()
