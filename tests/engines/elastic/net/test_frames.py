import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradvote.engines.common.digests import digest_of
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.net.frames import HEADER_BYTES, BrokenStream, Frame, FrameKind, read
from gradvote.engines.elastic.peers import connected_from_bytes, ready
from gradvote.engines.elastic.snapshots import DecidedStep, Snapshot, decided_step_from, snapshot_from

LIMITS = dict.fromkeys(FrameKind, 1000)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    b.settimeout(5)
    yield a, b
    a.close()
    b.close()


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_frames_arrive_as_they_were_sent(pair: Pair, size: int) -> None:
    sent = Frame(FrameKind.BALLOT, 7, Slot(2**40, 3), bytes(range(256)) * 4, b"")
    sent = Frame(FrameKind.BALLOT, 7, Slot(2**40, 3), sent.body[:size])
    for _ in range(2):
        pair[0].sendall(b"".join(sent.pack()))
    for _ in range(2):
        got = read(pair[1], LIMITS)
        assert (got.kind, got.author, got.slot, bytes(got.body)) == (sent.kind, sent.author, sent.slot, sent.body)
        assert got.sound and got.digest == digest_of(sent.body)


def test_an_altered_body_is_known_and_the_next_frame_is_read(pair: Pair) -> None:
    raw = bytearray(b"".join(Frame(FrameKind.HELD, 1, Slot(5), b"abc").pack()))
    raw[-1] ^= 1
    pair[0].sendall(bytes(raw) + b"".join(Frame(FrameKind.BYE, 1, Slot(6)).pack()))
    assert not read(pair[1], LIMITS).sound
    assert read(pair[1], LIMITS).kind == FrameKind.BYE


@given(position=st.integers(0, HEADER_BYTES - 1), bit=st.integers(0, 7))
def test_every_altered_bit_of_a_header_breaks_the_stream(position: int, bit: int) -> None:
    a, b = socket.socketpair()
    with a, b:
        raw = bytearray(b"".join(Frame(FrameKind.BALLOT, 1, Slot(5), b"abc").pack()))
        raw[position] ^= 1 << bit
        a.sendall(raw)
        with pytest.raises(BrokenStream, match="altered"):
            read(b, LIMITS)


def test_too_much_is_refused_before_it_is_read(pair: Pair) -> None:
    pair[0].sendall(b"".join(Frame(FrameKind.BALLOT, 1, Slot(), bytes(1001)).pack())[:HEADER_BYTES])
    with pytest.raises(BrokenStream, match="announces 1001 bytes"):
        read(pair[1], LIMITS)


def test_an_end_within_a_frame_is_an_end(pair: Pair) -> None:
    pair[0].sendall(b"".join(Frame(FrameKind.BALLOT, 1, Slot(), b"abc").pack())[:-1])
    pair[0].close()
    with pytest.raises(ConnectionResetError):
        read(pair[1], LIMITS)


def test_steps_and_snapshots_travel() -> None:
    bodies = {2: b"", 9: b"ballot"}
    record = Record(Slot(3), Outcome.APPLY, {t: digest_of(b) for t, b in bodies.items()}, (Member(2, 0),))
    assert decided_step_from(DecidedStep(record, bodies).pack()) == DecidedStep(record, bodies)
    snapshot = Snapshot(1, Slot(4, 1), (Member(2, 0),), {2: Slot(3)}, b"state")
    assert snapshot_from(snapshot.pack()) == snapshot
    assert connected_from_bytes(bytes(ready(2, Slot(), [3, 1]).body) + b"x") == {1, 3}


def test_what_is_no_message_is_refused() -> None:
    record = Record(Slot(3), Outcome.APPLY, {2: digest_of(b"a")})
    whole = DecidedStep(record, {2: b"a"}).pack()
    for cut in range(len(whole)):
        with pytest.raises(ValueError, match=r"cut short|empty|ballots"):
            decided_step_from(whole[:cut])
    with pytest.raises(ValueError, match="other than those"):
        decided_step_from(DecidedStep(record, {2: b"b"}).pack())
    for body in (struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 2) + b"[]" + struct.pack("<Q", 0)):
        with pytest.raises(ValueError, match="not a state"):
            snapshot_from(body)


@given(st.binary(max_size=60))
def test_noise_is_no_message(body: bytes) -> None:
    for parse in (decided_step_from, snapshot_from):
        with pytest.raises(ValueError):  # which part of the noise is found first does not matter
            parse(body)
