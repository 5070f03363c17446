"""Parsers that need nothing but bytes: frames, greetings, texts, snapshots, messages."""

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import torch

from gradvote import algorithms
from gradvote.engines.common.ballot import rates_from_bytes, rates_to_bytes
from gradvote.engines.common.digests import digest_of
from gradvote.engines.common.protocol import Protocol, protocol_for
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.absences import GivenUp, Reason, Why, WhyGivenUp
from gradvote.engines.elastic.consensus.members import Member, Proof
from gradvote.engines.elastic.consensus.presence import Presence, presence_from
from gradvote.engines.elastic.consensus.records import Outcome, Record, held_from, held_to_json, record_from
from gradvote.engines.elastic.net import greetings
from gradvote.engines.elastic.net.channels import Channel
from gradvote.engines.elastic.net.frames import Frame, FrameKind, read
from gradvote.engines.elastic.net.local_processes import has_ended, own_name
from gradvote.engines.elastic.peers import connected_from_bytes
from gradvote.engines.elastic.snapshots import (
    DecidedStep,
    ShardedStep,
    Snapshot,
    decided_step_from,
    sharded_step_from,
    shards_from_bytes,
    shards_to_bytes,
    snapshot_from,
)
from gradvote.engines.elastic.stores.messages import (
    FIRST,
    VALUE,
    Answer,
    Question,
    answer_from,
    question_from,
)
from gradvote.engines.elastic.stores.messages import (
    NOTHING as NO_ENTRY,
)
from gradvote.engines.torchft.greetings import GREETING_BYTES, Greeting, greeting_from
from gradvote.engines.torchft.memory import account_from
from gradvote.engines.torchft.verdicts import Found, Refused, Verdict, verdict_bytes, verdict_from
from gradvote.wire import Kind, WireError
from tests.fuzz.target import Target

LIMITS = dict.fromkeys(FrameKind, 1 << 12)
MEMBERS = (Member(1, 0), Member(2, 1), Member(3, 2))
NAMES = {m.ticket: digest_of(bytes([m.number])) for m in MEMBERS}
PROOF = Proof(1, Slot(3), MEMBERS[1], (digest_of(b"a") * 3, digest_of(b"b") * 3))
REASON = Reason(2, Why.CLOSED, (0, 1))
RECORD = Record(
    Slot(3), Outcome.APPLY, NAMES, MEMBERS, "text", (PROOF,), ((1, 2), (2, 3)), ((0, 3),), (REASON,),
    GivenUp(WhyGivenUp.UNSERVED, 1, (REASON,), (0, 1), 2, 3),
)  # fmt: skip

NOTHING = Record(Slot(), Outcome.VOID)


class Socket:
    """What is read from a connection that brings these bytes, and then ends; a piece of them at a time."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def __bool__(self) -> bool:
        return len(self._left) > 0

    def recv_into(self, view: memoryview) -> int:
        num = min(len(view), len(self._left), 1000)
        view[:num], self._left = self._left[:num], self._left[num:]
        return num


def stream(data: bytes) -> None:
    """All frames of a connection. What is read is what was sent."""
    sock: Any = Socket(data)
    while sock:
        found = read(sock, LIMITS)
        assert len(found.body) <= LIMITS[found.kind] and (
            not found.sound or b"".join(found.pack()).endswith(found.body)
        )


def streams() -> Sequence[bytes]:
    bodies = (b"", b"body", bytes(1000))
    frames = [Frame(kind, 7, Slot(3, 1), body) for kind in FrameKind for body in bodies]
    return [b"".join(b"".join(f.pack()) for f in frames[i : i + 3]) for i in range(0, len(frames), 3)]


def with_checksum(data: bytes) -> None:
    """The same, with the checksum of the first header put right, so that more than checksums is tried."""
    size = 64
    if len(data) >= size:
        data = data[:size] + struct.pack("<I", zlib.crc32(data[:size])) + data[size:]
    stream(data)


def hello(data: bytes) -> None:
    sock: Any = Socket(b"".join(Frame(FrameKind.HELLO, 1, Slot(), data).pack()))
    greetings.hear(Channel(sock))


def round_trip(text: bytes) -> None:
    """A record that was read is written as the same one."""
    record = record_from(text)
    assert record_from(record.to_json()) == record


def place(text: bytes) -> None:
    found = presence_from(text.decode(errors="replace"))
    assert presence_from(found.to_json()) == found


def _process_names() -> Sequence[bytes]:
    own = own_name() or "boot:1:2/3/4"
    return [own.encode(), own.rsplit("/", 1)[0].encode() + b"/1"]


def lists(text: bytes) -> None:
    found = held_from(text)
    assert held_from(held_to_json(*found).encode()) == found


def snapshot(body: bytes) -> None:
    found = snapshot_from(body)
    assert snapshot_from(found.pack()) == found


def greeting(raw: bytes) -> None:
    """gloo brings exactly so many bytes; the checksum is put right as well."""
    raw = raw[:GREETING_BYTES].ljust(GREETING_BYTES, b"\0")
    own = greeting_from(raw)
    fixed = raw[:-4] + struct.pack("<I", zlib.crc32(raw[:-4]))
    found = greeting_from(fixed)
    assert (own is None or own.pack() == raw) and (found is None or greeting_from(found.pack()) == found)


def verdict(raw: bytes) -> None:
    raw = raw[: verdict_bytes(3)].ljust(verdict_bytes(3), b"\0")
    assert len(verdict_from(raw).found) == 3


def account(raw: bytes) -> None:
    """What a replica that heals has been given, in any nesting of plain values; texts stand for digests."""
    found = json.loads(raw, object_pairs_hook=lambda pairs: {key: _with_bytes(value) for key, value in pairs})
    counted = account_from({"history": bytes(16), "counted": found}).counted
    assert all(isinstance(digest, bytes) for _, _, digest in counted.values())


def _with_bytes(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    return [_with_bytes(own) for own in value] if isinstance(value, list) else value


def question(message: bytes) -> None:
    found = question_from(message)
    assert found.pack() == message


def answer(message: bytes) -> None:
    found = answer_from(message)
    assert found.pack() == message


def small_parsers(raw: bytes) -> None:
    """Those that take anything."""
    assert all(0 <= ticket < 1 << 32 for ticket in connected_from_bytes(raw))
    assert all(shard < 5 for shard in shards_from_bytes(raw, 5))
    assert len(rates_from_bytes(raw[: len(raw) - len(raw) % 8])) == len(raw) // 8


def protocols() -> list[Protocol]:
    tensors = [torch.zeros(70, 3), torch.zeros(5)]
    names = ("signsgd", "noisy", "dropsignsgd", "sgd", "signum", "dist-ef-sgdm")
    return [protocol_for(tensors, algorithms.create(name), 0) for name in names if name in algorithms.names()]


class Messages:
    """Ballots and decisions of several algorithms, in the wire format; the first byte says which."""

    def __init__(self) -> None:
        self._all = [(kind, own) for own in protocols() for kind in (Kind.BALLOT, Kind.DECISION)]

    def seeds(self) -> Sequence[bytes]:
        return [bytes([i]) + self._sound(*pair) for i, pair in enumerate(self._all)]

    def _sound(self, kind: Kind, own: Protocol) -> bytes:
        ctxs = own.contexts(3, 1, 0.1)
        flat = torch.linspace(-1, 1, own.layout.size)
        payloads, _ = own.encode(flat, own.init_worker(flat), ctxs)
        if kind == Kind.DECISION:
            voters = own.contexts(3, torch.tensor([[1]]), 0.1)
            stacked = own.parse(Kind.BALLOT, self._body(own, payloads, ctxs)[None], own.planes(Kind.BALLOT, ctxs))
            payloads, _ = own.combine(stacked, own.init_server(flat), voters)
        return own.send(kind, payloads, own.planes(kind, ctxs), ctxs[0])

    def _body(self, own: Protocol, payloads: Any, ctxs: Any) -> torch.Tensor:
        raw = own.send(Kind.BALLOT, payloads, own.planes(Kind.BALLOT, ctxs), ctxs[0])
        return torch.frombuffer(bytearray(raw[40:]), dtype=torch.uint8)

    def parse(self, data: bytes) -> None:
        """As it came, and with its checksum put right; what is accepted decodes to numbers."""
        if not data:
            return
        kind, own = self._all[data[0] % len(self._all)]
        raw = data[1:]
        if len(raw) >= 40 and data[0] >= len(self._all):
            raw = raw[:36] + struct.pack("<I", zlib.crc32(raw[40:], zlib.crc32(raw[:36] + bytes(4)))) + raw[40:]
        ctxs = own.contexts(3, 1, 0.1)
        payloads = own.receive(kind, raw, own.planes(kind, ctxs), ctxs[0])
        if kind == Kind.DECISION:
            direction, _ = own.decode(payloads, own.init_worker(torch.zeros(own.layout.size)), ctxs)
            assert bool(direction.isfinite().all())


def _steps() -> Sequence[bytes]:
    bodies = {1: b"one", 2: b"two", 3: b""}
    record = Record(Slot(3), Outcome.APPLY, {t: digest_of(body) for t, body in bodies.items()}, MEMBERS)
    return [DecidedStep(record, bodies).pack()]


def _verdicts() -> Sequence[bytes]:
    pairs = ((Found.SOUND, bytes(16)), (Found.NONE, bytes(16)), (Found.UNSOUND, bytes(16)))
    return [Verdict(False, bytes(16), pairs).pack()]


def _hellos() -> Sequence[bytes]:
    return [bytes(greetings.Hello(Member(1, 2), 3, 2**64 - 1).frame().body)]


TEXT = (ValueError,)
PLACE = Presence(3, 1, "127.0.0.1", 4000, 7, "state", {"0": "memory"}, "boot:1:2/3/4", {"seed": "0"})
_messages = Messages()
TARGETS: Sequence[Target] = (
    Target("frames", stream, (OSError,), streams),
    Target("headers", with_checksum, (OSError,), lambda: [s[:64] + s[68:] for s in streams()]),
    Target("hellos", hello, (OSError,), _hellos),
    Target("records", round_trip, TEXT, lambda: [r.to_json().encode() for r in (RECORD, NOTHING)]),
    Target("lists", lists, TEXT, lambda: [held_to_json(NAMES, True, [PROOF], [0, 4], {2: Why.LATE}).encode()]),
    Target("snapshots", snapshot, TEXT, lambda: [_snapshot().pack()]),
    Target("steps", decided_step_from, TEXT, _steps),
    Target("sharded steps", sharded_step_from, TEXT, lambda: [ShardedStep(RECORD, (b"one", b"two")).pack()]),
    Target("places", place, (ValueError,), lambda: [PLACE.to_json().encode()]),
    Target("names of processes", lambda raw: has_ended(raw.decode(errors="replace"), "127.0.0.1"), (), _process_names),
    Target("register questions", question, TEXT, lambda: [Question(FIRST, "slots/1/2/0", "{}").pack()]),
    Target("register answers", answer, TEXT, lambda: [Answer(VALUE, "{}").pack(), Answer(NO_ENTRY).pack()]),
    Target("small parsers", small_parsers, (), lambda: [shards_to_bytes([0, 1, 4]) * 4, rates_to_bytes([0.1, 0.2])]),
    Target("torchft greetings", greeting, (), lambda: [Greeting(3, Slot(7, 1), 2**63, 100, bytes(16), True).pack()]),
    Target("torchft verdicts", verdict, (Refused,), _verdicts),
    Target("torchft accounts", account, (ValueError, RecursionError), lambda: [b'{"1": [3, 0, "digest"]}']),
    Target("messages", _messages.parse, (WireError,), _messages.seeds, times=1 << 12),
)


def _snapshot() -> Snapshot:
    return Snapshot(1, Slot(3), MEMBERS, {1: Slot(2)}, b"state", (PROOF,), ((1, 2),), ((0, 2),), bytes(32))
