"""Strangers and workers gone bad against one worker's mesh: nothing is told, nothing grows, and who may, gets in."""

import errno
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.net import gate as gates
from gradvote.engines.elastic.net.authentication import Credentials, secure
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.net.channels import Channel
from gradvote.engines.elastic.net.connections import ROOM, Arrived, Closed, Connection, Inbox, Opened
from gradvote.engines.elastic.net.frames import STATE_FRAMES, Frame, FrameKind
from gradvote.engines.elastic.net.gate import OFFENCES, PENDING
from gradvote.engines.elastic.net.greetings import Hello, hear
from gradvote.engines.elastic.net.mesh import CROWDED, MOST_OF_ONE, Mesh
from gradvote.engines.elastic.stores.opening import storage_on
from tests.engines.elastic.strangers import STRANGERS, Attacker, announcing, enrol, half_open

RECIPE, LIMITS = 77, dict.fromkeys(FrameKind, 1000) | dict.fromkeys(STATE_FRAMES, 10**6)
ME = Member(1, 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("keys")
    for name in ("run", "others"):
        write_certificates(made / name, 3)
    return made / "run", made / "others"


class Place:
    """A worker's mesh, and its attacker."""

    def __init__(self, run: Path | None, others: Path) -> None:
        self.run, self.register, self.inbox = run, Register(storage_on(HashStore())), queue.SimpleQueue()  # type: ignore[var-annotated]
        self.mesh = self.new_mesh(0, self.inbox)
        assert self.register.ticket() == ME.ticket
        self.register.publish(Presence(1, 0, "127.0.0.1", self.mesh.port, 0, ""))
        self.mesh.start(ME)
        self.attacker = Attacker(self.mesh.port, RECIPE, None, others)

    def new_mesh(self, number: int, inbox: Inbox) -> Mesh:
        credentials = None if self.run is None else Credentials.load(self.run, number)
        return Mesh(self.register, "127.0.0.1", RECIPE, inbox, LIMITS, credentials)

    def as_worker(self, number: int) -> Attacker:
        credentials = None if self.run is None else Credentials.load(self.run, number)
        return Attacker(self.mesh.port, RECIPE, credentials)

    def event(self) -> object:
        return self.inbox.get(timeout=5)


@pytest.fixture(params=["keys", "insecure"])
def place(request: pytest.FixtureRequest, folders: tuple[Path, Path]) -> Iterator[Place]:
    own = Place(folders[0] if request.param == "keys" else None, folders[1])
    yield own
    own.mesh.stop()


@contextmanager
def member(place: Place, number: int = 1) -> Iterator[Channel]:
    """It dials again, as workers do: on a busy machine a flood may take the place of its handshake."""
    own, end = enrol(place.register, number), time.monotonic() + 8
    with ExitStack() as stack:
        while True:
            with suppress(ConnectionError if time.monotonic() < end else ()):
                channel = stack.enter_context(place.as_worker(number).enrolled(own, ME.ticket))
                break
        assert isinstance(place.event(), Opened)
        yield channel


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("how", STRANGERS)
def test_a_stranger_is_told_nothing_and_keeps_nobody_out(place: Place, how: str) -> None:
    thread = threading.Thread(target=STRANGERS[how], args=(place.attacker,))
    thread.start()
    with member(place):  # meanwhile
        thread.join(20)
        assert list(place.mesh.connections) == [2] and place.inbox.empty() and not place.mesh.strangers
    if how != "slow":
        until(lambda: sum(place.mesh.gate.refused.values()) > 0)


def test_few_handshakes_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    thread = threading.Thread(target=half_open, args=(place.attacker, 3 * PENDING, 0.3))
    thread.start()
    until(lambda: place.mesh.gate.refused["too many handshakes at once"] >= PENDING)
    assert threading.active_count() <= before + PENDING + 8
    thread.join()
    monkeypatch.setattr(gates, "PATIENCE", 0.1)
    with place.attacker.dial() as sock:
        assert not sock.recv(1), "who says nothing is not waited for"


@pytest.mark.parametrize("claim", [Member(99, 1), Member(1, 0), Member(2, 0), Member(2, 2)])
def test_a_worker_speaks_for_itself_only(place: Place, claim: Member) -> None:
    """A ticket that nobody has, this worker's own, and a ticket of worker 1 under another number."""
    enrol(place.register, 1)
    with pytest.raises(OSError), place.as_worker(1).enrolled(claim, ME.ticket):  # what comes is one of many
        if place.run is None and claim == ME:
            raise OSError("without keys whoever knows ticket, number and recipe is believed")
    assert not place.mesh.connections or place.run is None


def test_a_recipe_is_told_to_who_knows_it(place: Place) -> None:
    asks = Attacker(place.mesh.port, RECIPE + 1, place.as_worker(1).credentials)
    found: list[int] = []
    for attacker in (asks, place.as_worker(1)):
        sock = attacker.dial()
        channel = secure(sock, attacker.credentials, server_side=False)
        channel.send_frame(Hello(enrol(place.register, 1), 1, attacker.recipe).frame())
        found.append(hear(channel).recipe)
        sock.close()
    assert found == [0, RECIPE]


def test_running_out_of_descriptors_is_survived(place: Place) -> None:
    real, left = place.mesh._server, [5]

    class Exhausted:
        def accept(self) -> object:
            if left[0]:
                left[0] -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return real.accept()

        def close(self) -> None:
            real.close()

    place.mesh._server = Exhausted()  # type: ignore[assignment]
    until(lambda: left[0] == 0)
    with member(place):
        pass


def test_connections_of_one_worker_take_nobodys_place(place: Place) -> None:
    """Each as another process of it, which the register knows; all shake hands before the first is counted."""
    together = threading.Barrier(MOST_OF_ONE + 3)
    greet = place.mesh._greet

    def greets_together(channel: Channel, asked: Hello) -> None:
        greet(channel, asked)
        if asked.member.number == 1:
            together.wait(5)

    with ExitStack() as stack:
        place.mesh._greet = greets_together  # type: ignore[method-assign]
        for _ in range(together.parties):
            stack.enter_context(place.as_worker(1).enrolled(enrol(place.register, 1), ME.ticket))
        until(lambda: place.mesh.gate.refused[CROWDED] == 3)
        with suppress(OSError):  # one after them is not even greeted
            stack.enter_context(place.as_worker(1).enrolled(enrol(place.register, 1), ME.ticket))
            raise AssertionError("it was greeted")
        with member(place, 2):
            until(lambda: sum(c.peer.number == 2 for c in place.mesh.connections.values()) == 1)
        assert sum(c.peer.number == 1 for c in place.mesh.connections.values()) == MOST_OF_ONE
        assert place.mesh.gate.refused[CROWDED] == 4


def test_who_announces_too_much_again_and_again_stays_away(place: Place) -> None:
    for k in range(OFFENCES):
        with member(place) as channel:
            channel.sendall(announcing(FrameKind.SNAPSHOT if k % 2 else FrameKind.BALLOT, 1 << 40))
            closed = place.event()
            assert isinstance(closed, Closed) and "announces" in closed.damaged and closed.offence
            place.mesh.closed(closed.connection)
            place.mesh.offends(closed.connection, closed.offence)
    with pytest.raises(OSError), place.as_worker(1).enrolled(enrol(place.register, 1), ME.ticket):
        pass
    with member(place, 2):
        pass
    assert place.mesh.gate.refused["wrong frames"] == OFFENCES and place.mesh.gate.refused["barred for a while"]


def pair() -> tuple[Connection, Inbox, socket.socket]:
    near, far = socket.socketpair()
    inbox: Inbox = queue.SimpleQueue()
    return Connection(Channel(near), Member(2, 1), inbox, LIMITS), inbox, far


def test_what_is_not_taken_is_not_read() -> None:
    """A peer may fill its share of the inbox, and is then read no further."""
    connection, inbox, far = pair()
    connection.start()
    sent, body = [0], bytes(1000)
    raw = b"".join(Frame(FrameKind.BALLOT, 1, Slot(), body).pack())

    def send() -> None:
        while sent[0] < 3 * ROOM:
            far.sendall(raw)
            sent[0] += len(raw)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    time.sleep(1.0)
    assert inbox.qsize() * len(body) <= connection._room + len(body) < 3 * ROOM and thread.is_alive()
    taken = 0
    while thread.is_alive() or taken * len(raw) < sent[0]:
        with suppress(queue.Empty):  # the sender's last word may have been taken before it ends
            event = inbox.get(timeout=0.1)
            if isinstance(event, Arrived):
                connection.taken(event.frame)
                taken += 1
    far.close()


def test_who_does_not_read_is_let_go() -> None:
    connection, inbox, far = pair()
    connection.start()
    frame = Frame(FrameKind.BALLOT, 1, Slot(), bytes(1 << 16))
    for _ in range(10 * ROOM >> 16):
        connection.send(frame)
    events = [inbox.get(timeout=5), inbox.get(timeout=5)]
    assert isinstance(events[1], Closed) and events[1].offence == "does not read"
    assert connection._bytes_waiting(states=False) <= connection._room + len(frame.body)
    far.close()
