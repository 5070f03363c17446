"""Who is at the other end: certificates of the run, none, another run's; rotation; and frames over it."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.net.authentication import REGISTER, Credentials, secure
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.net.channels import Channel, Unproven
from gradvote.engines.elastic.net.frames import Frame, FrameKind

LIMITS = {FrameKind.BALLOT: 10**7}
End = Callable[[socket.socket], Channel]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    assert write_certificates(made, 3) == [REGISTER, 0, 1, 2]
    return made


def meet(server: Credentials | None, client: End) -> tuple[Channel | OSError, Channel | OSError]:
    """What the two ends of a connection come to: a channel, or why there is none."""
    near, far = socket.socketpair()
    found: list[Channel | OSError] = []

    def serve() -> None:
        try:
            found.append(secure(near, server, server_side=True, seconds=0.5))
        except OSError as error:
            found.append(error)
            near.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        other: Channel | OSError = client(far)
    except OSError as error:
        other = error
        far.close()
    thread.join()
    return found[0], other


@contextmanager
def channels(server: Credentials | None, client: Credentials | None) -> Iterator[tuple[Channel, Channel]]:
    near, far = meet(server, lambda sock: secure(sock, client, server_side=False))
    assert isinstance(near, Channel) and isinstance(far, Channel), (near, far)
    yield near, far
    near.close()
    far.close()


def test_a_certificate_fixes_the_number(folder: Path) -> None:
    with channels(Credentials.load(folder, REGISTER), Credentials.load(folder, 2)) as (near, far):
        assert (near.peer, far.peer) == (2, REGISTER)
    with channels(None, None) as (near, far):
        assert (near.peer, far.peer) == (None, None)


@pytest.mark.parametrize("keys", [True, False])
def test_frames_go_both_ways_at_once(folder: Path, keys: bool) -> None:
    own = (Credentials.load(folder, 0), Credentials.load(folder, 1)) if keys else (None, None)
    body = bytes(range(256)) * 8000
    with channels(*own) as ends:
        got: dict[int, list[Frame]] = {0: [], 1: []}
        work = [
            lambda k=k: [ends[k].send_frame(Frame(FrameKind.BALLOT, k, Slot(5), body)) for _ in range(5)]
            for k in (0, 1)
        ]  # type: ignore[misc]
        work += [lambda k=k: [got[k].append(ends[k].recv_frame(LIMITS)) for _ in range(5)] for k in (0, 1)]  # type: ignore[misc]
        threads = [threading.Thread(target=w) for w in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [(f.author, f.sound, f.body == body) for k in (0, 1) for f in got[k]] == [(1, True, True)] * 5 + [
            (0, True, True)
        ] * 5
        ends[0].end_writing()  # the other direction goes on
        with pytest.raises(ConnectionResetError):
            ends[1].recv_frame(LIMITS)
        ends[1].send_frame(Frame(FrameKind.BALLOT, 1, Slot(6), b"last"))
        assert ends[0].recv_frame(LIMITS).body == b"last"


def plain_tls(sock: socket.socket, **files: Path) -> Channel:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files:
        context.load_cert_chain(files["certificate"], files["key"])
    with context.wrap_socket(sock) as wrapped:
        wrapped.recv(1)  # the server's refusal comes after the client's handshake
    raise AssertionError("it was let in")


def test_strangers_are_refused(folder: Path, tmp_path: Path) -> None:
    write_certificates(tmp_path, 2)
    mine = Credentials.load(folder, 0)
    ends: dict[str, End] = {
        "none": plain_tls,
        "another run's": lambda sock: plain_tls(
            sock, certificate=tmp_path / "worker-1.pem", key=tmp_path / "worker-1.key"
        ),
        "plain frames": lambda sock: sock.sendall(b"GVE2" * 30) or secure(sock, None, False).recv_frame(LIMITS),  # type: ignore[func-returns-value, return-value]
        "nothing": lambda sock: time.sleep(0.8) or secure(sock, mine, False),  # type: ignore[func-returns-value]
        "gone": lambda sock: sock.close() or Channel(sock),  # type: ignore[func-returns-value]
    }
    for name, end in ends.items():
        near, _ = meet(mine, end)
        assert isinstance(near, OSError), name
        assert isinstance(near, TimeoutError if name == "nothing" else OSError), name
    near, far = meet(Credentials.load(tmp_path, 0), lambda sock: secure(sock, mine, False))
    assert isinstance(near, Unproven) and isinstance(far, Unproven) and "no certificate of this run" in str(far)


def test_a_byte_at_a_time_does_not_last(folder: Path) -> None:
    def slow(sock: socket.socket) -> Channel:
        started = time.monotonic()
        while time.monotonic() < started + 3:
            sock.sendall(b"\x16")
            time.sleep(0.1)
        return Channel(sock)

    started = time.monotonic()
    near, far = meet(Credentials.load(folder, 0), slow)
    assert isinstance(near, OSError) and isinstance(far, OSError) and time.monotonic() < started + 2


def test_workers_come_later_and_keys_change_while_a_run_goes_on(tmp_path: Path) -> None:
    write_certificates(tmp_path, 1)
    first = Credentials.load(tmp_path, 0)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert write_certificates(tmp_path, 2) == [1] and {p: p.read_bytes() for p in before} == before
    old = tmp_path / "old"
    old.mkdir()
    for name in ("ca.pem", "worker-1.pem", "worker-1.key"):
        (old / name).write_bytes((tmp_path / name).read_bytes())
        (old / name).chmod(0o600)
    late = Credentials.load(old, 1)
    assert write_certificates(tmp_path, 2, rotate=True) == [REGISTER, 0, 1]
    with channels(first, Credentials.load(tmp_path, 1)) as (near, far):
        assert (near.peer, far.peer) == (1, 0)
    near, _ = meet(first, lambda sock: secure(sock, late, False))
    assert isinstance(near, Unproven), "who was not given the new authority does not know the new certificate"
    (old / "ca.pem").write_bytes((tmp_path / "ca.pem").read_bytes())
    with channels(first, late) as (near, _):
        assert near.peer == 1, "the authority before is still trusted"
    write_certificates(tmp_path, 2, rotate=True)
    assert isinstance(meet(first, lambda sock: secure(sock, late, False))[0], Unproven), "until the next rotation"


def test_what_is_missing_or_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no ca.pem .* `gradvote keys FOLDER --workers N`"):
        Credentials.load(tmp_path, 0)
    write_certificates(tmp_path, 2)
    with pytest.raises(ValueError, match=r"There is no worker-2.pem"):
        Credentials.load(tmp_path, 2)
    (tmp_path / "worker-0.key").write_bytes((tmp_path / "worker-1.key").read_bytes())
    with pytest.raises(ValueError, match=r"worker-0.pem, worker-0.key in .* do not fit each other"):
        Credentials.load(tmp_path, 0)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ValueError, match=r"There is no ca.key in .*: without it nobody can be certified"):
        write_certificates(tmp_path, 3)
    (tmp_path / "ca.key").write_bytes((folder / "ca.key").read_bytes())
    with pytest.raises(ValueError, match=r"is not the secret of ca.pem"):
        write_certificates(tmp_path, 3)
    assert (folder / "ca.key").stat().st_mode & 0o777 == (folder / "worker-0.key").stat().st_mode & 0o777 == 0o600
