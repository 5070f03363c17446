"""What travels to those who were away: a decided slot with its ballots; a whole state. Lengths are checked."""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gradvote.core import State
from gradvote.engines.elastic.frames import digest_of
from gradvote.engines.elastic.holders import SHARD, Holders, Moves
from gradvote.engines.elastic.records import (
    UNREADABLE,
    Member,
    Proof,
    Record,
    Slot,
    count,
    holders_from_raw,
    moves_from_raw,
    proofs_from_raw,
    proofs_to_raw,
    record_from,
)

_LENGTH = struct.Struct("<Q")
Bodies = Mapping[int, bytes | bytearray]


@dataclass(frozen=True)
class Entry:
    """A decided slot: its record and the ballots that count, by ticket."""

    record: Record
    bodies: Bodies

    @property
    def size(self) -> int:
        """Bytes of the ballots."""
        return sum(map(len, self.bodies.values()))

    def pack(self) -> bytes:
        """As the body of a frame."""
        return _packed([self.record.to_json().encode(), *(self.bodies[t] for t in sorted(self.record.counted))])


@dataclass(frozen=True)
class Decided:
    """A decided slot of a sharded run: its record and each shard's decision, behind the agreed learning rates.

    `memories` are those that were worked out here, `holders` those who held the shards; neither travels.
    """

    record: Record
    decisions: tuple[bytes, ...] = ()
    memories: Mapping[int, list[State]] = field(default_factory=dict, compare=False)
    holders: Holders = field(default=(), compare=False)

    @property
    def size(self) -> int:
        """Bytes of the decisions."""
        return sum(map(len, self.decisions))

    def pack(self) -> bytes:
        """As the body of a frame."""
        return _packed([self.record.to_json().encode(), *self.decisions])


@dataclass(frozen=True)
class Parcel:
    """The state before `slot`, its members, in which slot each process was last counted, and who lied so far."""

    generation: int
    slot: Slot
    members: tuple[Member, ...]
    counted: Mapping[int, Slot]
    state: bytes | bytearray
    proofs: tuple[Proof, ...] = ()
    holders: Holders = ()
    moves: Moves = ()
    history: bytes = b""

    def pack(self) -> bytes:
        """As the body of a frame."""
        counted = {str(t): [s.step, s.attempt] for t, s in self.counted.items()}
        members = [[m.ticket, m.number] for m in self.members]
        about: dict[str, object] = {"slot": [self.slot.step, self.slot.attempt], "members": members, "counted": counted}
        about |= {"generation": self.generation, "proofs": proofs_to_raw(self.proofs)}
        about |= {"holders": self.holders, "moves": self.moves, "history": self.history.hex()}
        return _packed([json.dumps(about).encode(), self.state])


def entry_from(body: bytes | bytearray, name: Callable[[bytes], bytes] = digest_of) -> Entry:
    """The entry in a frame's body; `name` is that of a ballot.

    Raises:
        ValueError: the body is something else, or its ballots are not those of its record.
    """
    head, *ballots = _unpacked(body)
    record = record_from(head)
    if len(ballots) != len(record.counted):
        raise ValueError(f"An entry has {len(ballots)} ballots; its record counts {len(record.counted)}.")
    bodies = dict(zip(sorted(record.counted), ballots, strict=True))
    if any(name(ballot) != record.counted[t] for t, ballot in bodies.items()):
        raise ValueError("An entry has ballots other than those that its record counts.")
    return Entry(record, bodies)


def decided_from(body: bytes | bytearray) -> Decided:
    """The entry of a sharded run in a frame's body.

    Raises:
        ValueError: the body is something else.
    """
    head, *rest = _unpacked(body)
    return Decided(record_from(head), tuple(rest))


def shards_to_bytes(shards: Iterable[int]) -> bytes:
    """Numbers of shards."""
    return b"".join(SHARD.pack(shard) for shard in shards)


def shards_from_bytes(body: bytes | bytearray, num: int) -> list[int]:
    """The inverse, each one once; what are no shards, of which there are `num`, is ignored."""
    whole = len(body) - len(body) % SHARD.size
    return sorted({shard for (shard,) in SHARD.iter_unpack(bytes(body[:whole])) if shard < num})


def parcel_from(body: bytes | bytearray) -> Parcel:
    """The parcel in a frame's body.

    Raises:
        ValueError: the body is something else.
    """
    parts = _unpacked(body)
    try:
        about = json.loads(parts[0])
        counted = {int(t): Slot(*map(count, s)) for t, s in about["counted"].items()}
        members = tuple(Member(count(t), count(n)) for t, n in about["members"])
        slot, proofs = Slot(*map(count, about["slot"])), proofs_from_raw(about["proofs"])
        holders, moves = holders_from_raw(about["holders"]), moves_from_raw(about["moves"])
        shards = holders, moves, bytes.fromhex(about["history"])
        return Parcel(count(about["generation"]), slot, members, counted, parts[1], proofs, *shards)
    except UNREADABLE as error:
        raise ValueError(f"This is not a state: {error}") from error


def _packed(parts: list[bytes | bytearray]) -> bytes:
    return b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part))


def _unpacked(body: bytes | bytearray) -> list[bytes]:
    parts, at = list[bytes](), 0
    while at < len(body):
        if len(body) - at < _LENGTH.size:
            raise ValueError("A parcel is cut short.")
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        if length > len(body) - at:
            raise ValueError("A parcel is cut short.")
        parts.append(bytes(body[at : at + length]))
        at += length
    if not parts:
        raise ValueError("A parcel is empty.")
    return parts
