"""A register behind a socket: who is heard, what is kept, and for how long anyone waits."""

import errno
import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.register import PREFIX, Register
from gradvote.engines.elastic.consensus.storage import RegisterLost, SlotPast
from gradvote.engines.elastic.net.authentication import Credentials
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.stores import server as serving
from gradvote.engines.elastic.stores.client import ServedStore
from gradvote.engines.elastic.stores.journal import FIRST_LINE, Journal
from gradvote.engines.elastic.stores.messages import DENIED, FIRST, Question
from gradvote.engines.elastic.stores.server import MOST_OF_ONE, OwnTable, RegisterServer, answered, serve
from gradvote.engines.elastic.stores.table import NoRoom, Table

KEY = "gradvote/elastic//tickets/1"


def record(step: int, text: str = "") -> Record:
    return Record(Slot(step), Outcome.VOID, members=(Member(1, 0),), text=text)


@pytest.fixture
def server() -> Iterator[RegisterServer]:
    own = serve("127.0.0.1")
    yield own
    own.close()


def client_of(server: RegisterServer) -> ServedStore:
    return ServedStore(server.host, server.port, server.access)


def test_the_first_proposal_wins_for_everyone(server: RegisterServer) -> None:
    one, two = Register(client_of(server)), Register(client_of(server))
    assert one.decide(1, record(3, "first")) == two.decide(1, record(3, "second")) == record(3, "first")
    assert two.decision(1, Slot(3)) == record(3, "first") and two.decision(1, Slot(4)) is None
    assert [one.ticket(), two.ticket(), one.ticket()] == [1, 2, 3] and two.num_tickets() == 3
    assert one.free_number() == 0 and two.free_number() == 1 and one.run_id() == two.run_id()
    one.publish(place := Presence(1, 0, "127.0.0.1", 4000, 0, "state"))
    assert two.place(1) == place and two.place(2) is None


def test_it_listens_where_it_was_told_and_hears_the_run_alone(server: RegisterServer) -> None:
    assert server._socket.getsockname()[0] == "127.0.0.1"
    stranger = ServedStore(server.host, server.port, b"another run's secret")
    with pytest.raises(RegisterLost, match="does not have this run's secret"):
        stranger.first(KEY, "mine", 5.0)
    with socket.create_connection((server.host, server.port)) as sock:  # repeats what it hears
        sock.sendall(sock.recv(32) + bytes(32))
        sock.recv(32)
        assert sock.recv(1) == b""
    assert client_of(server).get(KEY, 5.0) is None
    with pytest.raises(ValueError, match="entries of gradvote/elastic alone"):
        client_of(server).get("secret", 5.0)


def test_a_worker_says_where_it_is_and_not_where_others_are() -> None:
    table, place = Table(), Presence(1, 3, "127.0.0.1", 4000, 0, "state").to_json()
    key = f"{PREFIX}//places/1"
    assert answered(table, Question(FIRST, key, place), 2).text.endswith("a worker's place by itself.")
    assert table.get(key) is None and answered(table, Question(FIRST, key, place), 3).text == place


@pytest.mark.parametrize(
    "name", ["places/1", "founded/1", "slots/1/2/0", "confirmed/slots/1/2/0", "proofs/1", "ended/1"]
)
@pytest.mark.parametrize("value", ["", "[{}]", "[1]", "nothing", '{"number": 3}', "[" * 5000])
def test_what_nobody_can_read_is_not_kept(name: str, value: str) -> None:
    """It would stop all who look at it; a worker gone bad has a certificate to speak to the register."""
    table = Table()
    key = f"{PREFIX}//{name}"
    assert answered(table, Question(FIRST, key, value), 3).kind == DENIED and table.get(key) is None


def test_what_others_have_written_is_read_by_nobody() -> None:
    """A store that keeps anything: who says nothing that can be read is nowhere, and proves nothing."""
    table = Table()
    register = Register(OwnTable(table))
    for name in ("places/1", "proofs/1"):
        table.first(f"{PREFIX}//{name}", '{"number": 3}')
    assert register.place(1) is None and register.accusations() == []


@pytest.mark.parametrize("how", ["no certificate", "another run's", "a secret"])
def test_with_certificates_strangers_are_not_heard(tmp_path: Path, how: str) -> None:
    """Nor told anything: neither writes a decision in advance, nor deletes, nor reads."""
    for run in ("own", "others"):
        write_certificates(tmp_path / run, 2)
    server = serve("127.0.0.1", keys=tmp_path / "own")
    try:
        key, stop = f"{PREFIX}//slots/1/9/0", Record(Slot(9), Outcome.STOP, text="a stranger says so").to_json()
        if how == "no certificate":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with (
                pytest.raises(OSError),
                context.wrap_socket(socket.create_connection((server.host, server.port), 5)) as sock,
            ):
                message = Question(FIRST, key, stop).pack()
                sock.sendall(len(message).to_bytes(4, "little") + message)
                assert not sock.recv(1)
                raise ConnectionResetError
        else:
            access = b"a secret of 16 bytes" if how == "a secret" else Credentials.load(tmp_path / "others", 0)
            with pytest.raises(RegisterLost):
                ServedStore(server.host, server.port, access).first(key, stop, 2.0)
        assert server.table.get(key) is None
        member = ServedStore(server.host, server.port, Credentials.load(tmp_path / "own", 0))
        assert member.first(KEY, "mine", 5.0) == "mine"
    finally:
        server.close()


@pytest.mark.parametrize("slow", [False, True])
def test_connections_of_one_worker_take_nobodys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    """Even where several come before the thread of one that was sent away has forgotten it."""
    write_certificates(tmp_path, 2)
    if slow:
        forget = RegisterServer._forget
        monkeypatch.setattr(RegisterServer, "_forget", lambda *given: (time.sleep(0.5), forget(*given)))
    server = serve("127.0.0.1", keys=tmp_path)
    bad = [ServedStore(server.host, server.port, Credentials.load(tmp_path, 1)) for _ in range(MOST_OF_ONE + 5)]
    try:
        other = ServedStore(server.host, server.port, Credentials.load(tmp_path, 0))
        for store in (other, *bad):
            assert store.get(KEY, 5.0) is None
        end = time.monotonic() + 5
        while server.num_connections[0] > MOST_OF_ONE + 1 and time.monotonic() < end:
            time.sleep(0.01)
        assert server.num_connections[0] == MOST_OF_ONE + 1
        assert other.first(KEY, "mine", 5.0) == bad[0].get(KEY, 5.0) == "mine"  # who was sent away comes again
    finally:
        server.close()


def test_silent_strangers_keep_nobody_out(server: RegisterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GREETING", 0.3)
    strangers = [socket.create_connection((server.host, server.port)) for _ in range(2 * serving.MOST_STRANGERS)]
    try:
        assert client_of(server).first(KEY, "mine", 5.0) == "mine"
        assert server.num_connections[1] <= serving.MOST_STRANGERS
    finally:
        for sock in strangers:
            sock.close()


def test_no_call_outlives_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections stand, and nobody answers
        store, began = ServedStore("127.0.0.1", silent.getsockname()[1], b"secret"), time.monotonic()
        with pytest.raises(RegisterLost, match="does not answer"):
            store.get(KEY, 0.3)
        assert time.monotonic() - began < 2.0


def test_a_register_that_is_started_again_goes_on_where_it_was(tmp_path: Path) -> None:
    one = serve("127.0.0.1", journal=tmp_path / "journal")
    register = Register(client_of(one), patience=5.0)
    register.decide(1, record(3, "first"))
    with pytest.raises(ValueError, match="Another register uses the journal"):
        serve("127.0.0.1", journal=tmp_path / "journal")
    one.close()
    with pytest.raises(RegisterLost):
        register.decision(1, Slot(3))
    two = serve("127.0.0.1", journal=tmp_path / "journal")
    try:
        assert (two.port, two.access) == (one.port, one.access)
        assert register.decide(1, record(3, "second")) == record(3, "first")
        assert (tmp_path / "journal").stat().st_mode & 0o077 == 0
    finally:
        two.close()


def test_what_was_never_answered_for_is_cut_off_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    table = Table(Journal(path))
    table.first("a", "1")
    whole = path.read_bytes()
    table.first("b", "2")
    table.close()
    path.write_bytes(path.read_bytes()[:-1])
    table = Table(Journal(path))
    assert table.get("a") == "1" and table.get("b") is None and path.read_bytes() == whole
    table.first("b", "3")
    table.close()
    path.write_bytes(path.read_bytes().replace(b"a1", b"a2"))
    with pytest.raises(ValueError, match=f"damaged at byte {len(FIRST_LINE)}"):
        Table(Journal(path))
    path.write_bytes(b"something else\n")
    with pytest.raises(ValueError, match="not the journal"):
        Journal(path)


def test_a_full_disk_keeps_nothing_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = serve("127.0.0.1", journal=tmp_path / "journal")
    try:
        store, write = client_of(own), os.write
        size = (tmp_path / "journal").stat().st_size

        def full(descriptor: int, data: bytes) -> int:
            if len(data) < 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:10])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(RegisterLost, match=r"No space left on device.*Make room"):
                store.first(KEY, "1", 5.0)
        assert store.get(KEY, 5.0) is None and (tmp_path / "journal").stat().st_size == size
        assert store.first(KEY, "2", 5.0) == "2"
    finally:
        own.close()


def test_a_journal_is_written_anew_without_what_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    table = Table(Journal(path), kept=5, rewritten=4000)
    table.first("places/1", "here")
    sizes = []
    for step in range(300):
        if step == 100:
            monkeypatch.setattr(os, "replace", _full)  # pathlib's replace, too
            monkeypatch.setattr(Path, "replace", _full)
        if step == 150:
            monkeypatch.undo()
        table.first(f"x/slots/1/{step}/0", f"{step}" * 20)
        sizes.append(path.stat().st_size)
    assert max(sizes[:100] + sizes[200:]) < 9000 and max(sizes[100:150]) > 3000 and path.stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="Another register uses the journal"):
        Journal(path)
    table.close()
    assert [own.name for own in tmp_path.iterdir()] == ["journal"]
    again = Table(Journal(path), kept=5, rewritten=4000)
    assert again.get("places/1") == "here" and again.get("x/slots/1/299/0") == "299" * 20
    assert again.get("x/slots/1/294/0") is None
    for old in (0, 294):
        with pytest.raises(SlotPast):
            again.first(f"x/slots/1/{old}/0", "another one")
    with pytest.raises(NoRoom, match="the register's own"):
        again.first("\0floor/x/slots/1", "0/0")


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_entries_are_bounded_and_decisions_of_long_ago_refused() -> None:
    table = Table(kept=3, most=2)
    for step in range(5):
        assert table.first(f"x/slots/1/{step}/0", str(step)) == str(step)
    with pytest.raises(SlotPast):
        table.first("x/slots/1/1/0", "another one")
    assert table.get("x/slots/1/0/0") is None and table.first("x/slots/1/2/0", "another one") == "2"
    assert table.first("x/slots/2/0/0", "of another group") == "of another group"
    table.first("a", "")
    table.first("b", "")
    with pytest.raises(NoRoom, match="at most 2 entries"):
        table.first("c", "")
    with pytest.raises(NoRoom, match="at most 200 and"):
        table.first("x/slots/2/1/0", "x" * (1 << 20))
