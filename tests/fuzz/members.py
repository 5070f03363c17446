"""What needs a member of a run: frames of any kind in the middle of a round; states and memories of peers."""

import contextlib
import io
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import nn

from gradvote import algorithms
from gradvote.engines.common.digests import digest_of
from gradvote.engines.common.errors import Equivocation
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.catch_up.learning import Learner
from gradvote.engines.elastic.consensus.records import held_to_json
from gradvote.engines.elastic.net.connections import Arrived
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.servers.sharded import Sharded
from gradvote.engines.elastic.timeouts import Replaced
from gradvote.engines.elastic.voting import VotingRound
from tests.engines.elastic.played import Played, member
from tests.fuzz.parsers import NAMES, RECORD
from tests.fuzz.target import Target

LIFE = 200
"""Inputs after which a member begins anew, so that what was heard is not heard for ever."""
HEAD = 4


class Round:
    """A member in the middle of a round, or one that learns; the first bytes of an input say what frame comes, by whom.

    Kind, author, peer, and how far ahead its step is (with the highest bit: an attempt). A member that heard a frame
    may stop the run, where the frame is another member's proven lie; anything else is counted, and the round goes on.
    """

    def __init__(self, sharded: bool, learns: bool = False) -> None:
        self._sharded, self._learns, self._left = sharded, learns, 0
        self._stack = ExitStack()

    def parse(self, data: bytes) -> None:
        if len(data) < HEAD:
            return
        if not self._left:
            self._begin()
        self._left -= 1
        kind, author, peer, step = data[:HEAD]
        slot = Slot(step & 31, step >> 7)
        frame = Frame(FrameKind(1 + kind % len(FrameKind)), author % 5, slot, data[HEAD:], digest_of(data[HEAD:]))
        connection = self.own.node.mesh.connections[2 + peer % 2]
        self.own.node.peers._inbox.put(Arrived(connection, frame))
        try:
            for event in self.own.events(0.0):
                if self._learns:
                    self._learner._handle(event)
                else:
                    self._round._handle(event)
        except Exception:
            self._left = 0
            raise
        finally:
            for other in self.own.node.mesh.connections.values():
                assert isinstance(other, Played)
                assert len(other.sent) < 100
                other.sent.clear()
        if not self._learns and any(t not in (1, 2, 3) for t in self._round.agreement.held):
            raise AssertionError("a ballot of nobody")

    def _begin(self) -> None:
        self._stack.close()
        self.own = self._stack.enter_context(member(1, sharded=self._sharded))
        ballot = self.own.server.replica.vote(self.own.node.slot)
        if self._learns:
            self._learner = Learner(self.own, fresh=False)
            self.own.node.membership.step_out()
        else:
            self._round = VotingRound(self.own, ballot)
        self._left = LIFE

    def seeds(self) -> Sequence[bytes]:
        with member(2, sharded=self._sharded) as other:
            round_ = VotingRound(other, other.server.replica.vote(other.node.slot))
            ballot = bytes(round_.box.frame(2, 1).body)
        bodies = {
            FrameKind.BALLOT: ballot, FrameKind.HELD: held_to_json(NAMES, True).encode(), FrameKind.PULL: b"fresh",
            FrameKind.RECORD: RECORD.to_json().encode(), FrameKind.READY: b"\x01\0\0\0", FrameKind.WANT: b"\0\0\1\0",
            FrameKind.OUTSIDE: b"member", FrameKind.DIGEST: bytes(34), FrameKind.DECISION: bytes(60),
        }  # fmt: skip
        return [bytes([kind - 1, 2, 0, step]) + bodies.get(kind, b"") for kind in FrameKind for step in (0, 1)]


def replica() -> Replica:
    torch.manual_seed(0)
    model = nn.Linear(7, 3)
    return Replica(model, torch.optim.AdamW(model.parameters(), 0.1), algorithms.create("dist-ef-sgdm"), 0, 0, None)


class States:
    """The state of a peer; or only the pickle in it, within a sound archive."""

    def __init__(self) -> None:
        self._own = replica()

    def parse(self, raw: bytes) -> None:
        self._own.restore(raw)

    def parse_pickle(self, pickle: bytes) -> None:
        self.parse(self._archive(pickle))

    def seeds(self) -> Sequence[bytes]:
        return [self._own.snapshot()]

    def pickles(self) -> Sequence[bytes]:
        with zipfile.ZipFile(io.BytesIO(self._own.snapshot())) as archive:
            return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]

    def _archive(self, pickle: bytes) -> bytes:
        out = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(self._own.snapshot())) as archive,
            zipfile.ZipFile(out, "w") as changed,
        ):
            for name in archive.namelist():
                changed.writestr(name, pickle if name.endswith("data.pkl") else archive.read(name))
        return out.getvalue()


class Memories:
    """The memory of a shard, from the holder that is to give it."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def parse(self, raw: bytes) -> None:
        with contextlib.suppress(AttributeError):
            self._own.memories.pop(0, None)
            self._own.take(1, 2, Slot(), raw)
            return
        self._begin()
        self.parse(raw)

    def seeds(self) -> Sequence[bytes]:
        self._begin()
        with member(2) as other:
            assert isinstance(other.server, Sharded)
            return [other.server.shards.to_bytes(0)]

    def _begin(self) -> None:
        own = self._stack.enter_context(member(1))
        assert isinstance(own.server, Sharded)
        self._own = own.server.shards
        self._own.hold(1, Slot(), ((2, 1), (2, 3), (3, 1)), ((0, 1),))


_states, _memories = States(), Memories()
ROUNDS = {
    "rounds": Round(sharded=False), "sharded rounds": Round(sharded=True),
    "learners": Round(sharded=False, learns=True), "sharded learners": Round(sharded=True, learns=True),
}  # fmt: skip
STOPS = {"rounds": (), "sharded rounds": (Equivocation,)}
"""Who learns believes its teacher, also that it has been replaced."""
TARGETS: Sequence[Target] = (
    *(Target(name, own.parse, STOPS.get(name, (Replaced,)), own.seeds, times=1 << 12) for name, own in ROUNDS.items()),
    Target("states", _states.parse, (ValueError,), _states.seeds, times=1 << 12),
    Target("pickles of states", _states.parse_pickle, (ValueError,), _states.pickles, times=1 << 12),
    Target("memories", _memories.parse, (ValueError,), _memories.seeds, times=1 << 12),
)
