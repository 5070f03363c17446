"""What travels to those who were away: a decided slot with its ballots; a whole state. Lengths are checked."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gradvote.core import State
from gradvote.engines.common.digests import Bytes, digest_of
from gradvote.engines.common.shared_state import LENGTH
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import UNREADABLE, Member, Proof, count, proofs_from_raw, proofs_to_raw
from gradvote.engines.elastic.consensus.records import Record, holders_from_raw, moves_from_raw, record_from
from gradvote.engines.elastic.consensus.shard_assignment import SHARD, Holders, Moves

Bodies = Mapping[int, bytes | bytearray]
LOGGED, LOGGED_BYTES = 32, 1 << 26


class Step(Protocol):
    """A decided slot, whatever the placement."""

    @property
    def record(self) -> Record:
        """What was agreed on."""

    @property
    def size(self) -> int:
        """Bytes of what it holds beside the record."""

    def pack(self) -> bytes:
        """As the body of a frame."""

    def to_keep(self) -> "Step":
        """What the log keeps of it."""


class StepLog:
    """The latest decided slots, for those who are a little behind."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()

    def add(self, step: Step) -> None:
        """Keep a step, and let go the oldest ones where there are too many."""
        self._steps.append(step.to_keep())
        while len(self._steps) > LOGGED or (len(self._steps) > 1 and sum(s.size for s in self._steps) > LOGGED_BYTES):
            self._steps.popleft()

    def clear(self) -> None:
        """Begin anew, with another group or state."""
        self._steps.clear()

    def find(self, slot: Slot) -> Step | None:
        """What became of a slot, as long as it is remembered."""
        return next((step for step in self._steps if step.record.slot == slot), None)

    def since(self, slot: Slot) -> list[Step]:
        """All from a slot on; none where that one is not remembered."""
        steps = [step for step in self._steps if step.record.slot >= slot]
        return steps if steps and steps[0].record.slot == slot else []


@dataclass(frozen=True)
class DecidedStep:
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

    def to_keep(self) -> "DecidedStep":
        """All of it."""
        return self


@dataclass(frozen=True)
class ShardedStep:
    """A decided slot of a sharded run: its record and each shard's decision, behind the agreed learning rates.

    `memories` are those that were worked out here, `holders` those who held the shards; neither travels.
    """

    record: Record
    decisions: tuple[bytes, ...] = ()
    memories: Mapping[int, Sequence[State]] = field(default_factory=dict, compare=False)
    holders: Holders = field(default=(), compare=False)

    @property
    def size(self) -> int:
        """Bytes of the decisions."""
        return sum(map(len, self.decisions))

    def pack(self) -> bytes:
        """As the body of a frame."""
        return _packed([self.record.to_json().encode(), *self.decisions])

    def to_keep(self) -> "ShardedStep":
        """Without the memories, which would be those of many steps."""
        return replace(self, memories={})


@dataclass(frozen=True)
class Snapshot:
    """The state before `slot`, its members, in which slot each process was last counted, and who lied so far."""

    generation: int
    slot: Slot
    members: tuple[Member, ...]
    counted: Mapping[int, Slot]
    state: Bytes
    proofs: tuple[Proof, ...] = ()
    holders: Holders = ()
    moves: Moves = ()
    history: bytes = b""

    def pack(self) -> bytes:
        """As the body of a frame."""
        return _packed([self._about(), self.state])

    def pack_with(self, state_behind: Callable[[bytes], bytes]) -> bytes:
        """The same with the state that is written behind what it is given, so that it is not there twice."""
        return state_behind(_packed([self._about()]))

    def _about(self) -> bytes:
        counted = {str(t): [s.step, s.attempt] for t, s in self.counted.items()}
        members = [[m.ticket, m.number] for m in self.members]
        about: dict[str, object] = {"slot": [self.slot.step, self.slot.attempt], "members": members, "counted": counted}
        about |= {"generation": self.generation, "proofs": proofs_to_raw(self.proofs)}
        about |= {"holders": self.holders, "moves": self.moves, "history": self.history.hex()}
        return json.dumps(about).encode()


def decided_step_from(body: bytes | bytearray, name: Callable[[bytes], bytes] = digest_of) -> DecidedStep:
    """The step in a frame's body; `name` is that of a ballot.

    Raises:
        ValueError: the body is something else, or its ballots are not those of its record.
    """
    head, *ballots = map(bytes, _unpacked(body))
    record = record_from(head)
    if len(ballots) != len(record.counted):
        raise ValueError(f"A step has {len(ballots)} ballots; its record counts {len(record.counted)}.")
    bodies = dict(zip(sorted(record.counted), ballots, strict=True))
    if any(name(ballot) != record.counted[t] for t, ballot in bodies.items()):
        raise ValueError("A step has ballots other than those that its record counts.")
    return DecidedStep(record, bodies)


def sharded_step_from(body: bytes | bytearray) -> ShardedStep:
    """The step of a sharded run in a frame's body.

    Raises:
        ValueError: the body is something else.
    """
    head, *rest = map(bytes, _unpacked(body))
    return ShardedStep(record_from(head), tuple(rest))


def shards_to_bytes(shards: Iterable[int]) -> bytes:
    """Numbers of shards."""
    return b"".join(SHARD.pack(shard) for shard in shards)


def shards_from_bytes(body: bytes | bytearray, num: int) -> list[int]:
    """The inverse, each one once; what are no shards, of which there are `num`, is ignored."""
    whole = len(body) - len(body) % SHARD.size
    return sorted({shard for (shard,) in SHARD.iter_unpack(bytes(body[:whole])) if shard < num})


def snapshot_from(body: bytes | bytearray) -> Snapshot:
    """The snapshot in a frame's body; its state stays where it arrived.

    Raises:
        ValueError: the body is something else.
    """
    parts = _unpacked(body)
    try:
        about = json.loads(bytes(parts[0]))
        counted = {int(t): Slot(*map(count, s)) for t, s in about["counted"].items()}
        members = tuple(Member(count(t), count(n)) for t, n in about["members"])
        slot, proofs = Slot(*map(count, about["slot"])), proofs_from_raw(about["proofs"])
        holders, moves = holders_from_raw(about["holders"]), moves_from_raw(about["moves"])
        shards = holders, moves, bytes.fromhex(about["history"])
        return Snapshot(count(about["generation"]), slot, members, counted, parts[1], proofs, *shards)
    except UNREADABLE as error:
        raise ValueError(f"This is not a state: {error}") from error


def _packed(parts: Sequence[Bytes]) -> bytes:
    return b"".join(piece for part in parts for piece in (LENGTH.pack(len(part)), part))


def _unpacked(body: bytes | bytearray) -> list[memoryview]:
    parts, at, view = list[memoryview](), 0, memoryview(body)
    while at < len(body):
        if len(body) - at < LENGTH.size:
            raise ValueError("A snapshot is cut short.")
        (length,) = LENGTH.unpack_from(body, at)
        at += LENGTH.size
        if length > len(body) - at:
            raise ValueError("A snapshot is cut short.")
        parts.append(view[at : at + length])
        at += length
    if not parts:
        raise ValueError("A snapshot is empty.")
    return parts
