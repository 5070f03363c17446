import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradvote.engines.elastic.frames import HEADER_BYTES, BrokenStream, Frame, Kind, digest_of, read
from gradvote.engines.elastic.parcels import Entry, Parcel, entry_from, parcel_from
from gradvote.engines.elastic.records import Member, Outcome, Record, Slot
from gradvote.engines.elastic.teaching import reached_from_bytes, reached_to_bytes

LIMITS = dict.fromkeys(Kind, 1000)


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
    sent = Frame(Kind.BALLOT, 7, Slot(2**40, 3), bytes(range(256)) * 4, b"")
    sent = Frame(Kind.BALLOT, 7, Slot(2**40, 3), sent.body[:size])
    for _ in range(2):
        pair[0].sendall(b"".join(sent.pack()))
    for _ in range(2):
        got = read(pair[1], LIMITS)
        assert (got.kind, got.author, got.slot, bytes(got.body)) == (sent.kind, sent.author, sent.slot, sent.body)
        assert got.sound and got.digest == digest_of(sent.body)


def test_an_altered_body_is_known_and_the_next_frame_is_read(pair: Pair) -> None:
    raw = bytearray(b"".join(Frame(Kind.HELD, 1, Slot(5), b"abc").pack()))
    raw[-1] ^= 1
    pair[0].sendall(bytes(raw) + b"".join(Frame(Kind.BYE, 1, Slot(6)).pack()))
    assert not read(pair[1], LIMITS).sound
    assert read(pair[1], LIMITS).kind == Kind.BYE


@given(position=st.integers(0, HEADER_BYTES - 1), bit=st.integers(0, 7))
def test_every_altered_bit_of_a_header_breaks_the_stream(position: int, bit: int) -> None:
    a, b = socket.socketpair()
    with a, b:
        raw = bytearray(b"".join(Frame(Kind.BALLOT, 1, Slot(5), b"abc").pack()))
        raw[position] ^= 1 << bit
        a.sendall(raw)
        with pytest.raises(BrokenStream, match="altered"):
            read(b, LIMITS)


def test_too_much_is_refused_before_it_is_read(pair: Pair) -> None:
    pair[0].sendall(b"".join(Frame(Kind.BALLOT, 1, Slot(), bytes(1001)).pack())[:HEADER_BYTES])
    with pytest.raises(BrokenStream, match="announces 1001 bytes"):
        read(pair[1], LIMITS)


def test_an_end_within_a_frame_is_an_end(pair: Pair) -> None:
    pair[0].sendall(b"".join(Frame(Kind.BALLOT, 1, Slot(), b"abc").pack())[:-1])
    pair[0].close()
    with pytest.raises(ConnectionResetError):
        read(pair[1], LIMITS)


def test_parcels_travel() -> None:
    bodies = {2: b"", 9: b"ballot"}
    record = Record(Slot(3), Outcome.APPLY, {t: digest_of(b) for t, b in bodies.items()}, (Member(2, 0),))
    assert entry_from(Entry(record, bodies).pack()) == Entry(record, bodies)
    parcel = Parcel(1, Slot(4, 1), (Member(2, 0),), {2: Slot(3)}, b"state")
    assert parcel_from(parcel.pack()) == parcel
    assert reached_from_bytes(reached_to_bytes([3, 1]) + b"x") == {1, 3}


def test_what_is_no_parcel_is_refused() -> None:
    record = Record(Slot(3), Outcome.APPLY, {2: digest_of(b"a")})
    whole = Entry(record, {2: b"a"}).pack()
    for cut in range(len(whole)):
        with pytest.raises(ValueError, match=r"cut short|empty|ballots"):
            entry_from(whole[:cut])
    with pytest.raises(ValueError, match="other than those"):
        entry_from(Entry(record, {2: b"b"}).pack())
    for body in (struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 2) + b"[]" + struct.pack("<Q", 0)):
        with pytest.raises(ValueError, match="not a state"):
            parcel_from(body)


@given(st.binary(max_size=60))
def test_noise_is_no_parcel(body: bytes) -> None:
    for parse in (entry_from, parcel_from):
        with pytest.raises(ValueError):  # which part of the noise is found first does not matter
            parse(body)
