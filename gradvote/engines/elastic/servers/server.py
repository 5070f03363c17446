"""What every placement of the server has to know and to do; `Replicated` and `Sharded` are the two."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.ballot_box import BallotBox
from gradvote.engines.elastic.consensus.agreement import Agreement
from gradvote.engines.elastic.consensus.records import Record
from gradvote.engines.elastic.consensus.shard_assignment import Holders, Moves
from gradvote.engines.elastic.net.connections import Arrived, Connection, Event
from gradvote.engines.elastic.net.frames import ROUND_FRAMES, STATE_FRAMES, Frame, FrameKind
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.snapshots import Snapshot, Step

SPARE_BYTES, LIST_BYTES, SHORT_BYTES = 1 << 20, 1 << 16, 64
SHORT_FRAMES = (FrameKind.PULL, FrameKind.OUTSIDE, FrameKind.BYE, FrameKind.GOODBYE, FrameKind.WHOLE)
STATE_BYTES = 128
"""The most that a state has for each number of a model: 16 numbers of 8 bytes."""


class OpenRound(Protocol):
    """What a server needs of the round whose ballots it decides on."""

    node: Node
    slot: Slot
    agreement: Agreement
    box: BallotBox
    ahead: list[Arrived]
    """Frames between servers that came before the ballots had been agreed on."""

    def events(self, seconds: float) -> Iterator[Event]:
        """What arrives."""

    def registered(self, slot: Slot) -> Record | None:
        """What the register has decided on a slot; None where it has not, or does not answer now."""

    def hear_old(self, event: Arrived) -> None:
        """A frame of a slot that is past."""

    def hear_ballot(self, event: Arrived) -> None:
        """A ballot of this slot."""


class Server(Protocol):
    """Where the server's memory is, and what follows from that.

    `mark` sets apart the recipes of runs that are not to meet. Where the server is whole everywhere, `num_shards` is 0,
    and holders, moves and history are empty.
    """

    replica: Replica
    mark: int
    num_shards: int

    @property
    def holders(self) -> Holders:
        """For each shard the processes that hold it, its server first."""

    @property
    def moves(self) -> Moves:
        """Who holds a shard without its memory, and must be given it."""

    @property
    def history(self) -> bytes:
        """Stands for all decisions that the group has applied: with equal ones, members are alike."""

    def limits(self) -> dict[FrameKind, int]:
        """The longest bodies of frames, by kind."""

    def ballot_box(self, node: Node, ballot: Ballot) -> BallotBox:
        """For the ballots of the round that a process is in; this one is its own."""

    def settle(self, vote: OpenRound, record: Record) -> Step | None:
        """What the ballots that count come to; None where this process cannot say by itself, and has to learn.

        Raises:
            Equivocation: servers, or those who sent ballots, told different members different things.
            ShardLost: nobody that is left knows what was decided.
        """

    def given_up(self, record: Record) -> Step:
        """A slot in which nothing was decided."""

    def read(self, node: Node, frame: Frame) -> Step:
        """A decided slot that another member has sent.

        Raises:
            ValueError: this is none, or cannot follow from what the group is; also WireError.
        """

    def apply(self, node: Node, step: Step) -> None:
        """Take the optimizer's step with what was decided."""

    def enter(self, node: Node, holders: Holders, moves: Moves) -> None:
        """Take over who holds what before the slot that a process stands before."""

    def go_on(self, node: Node, record: Record) -> None:
        """The same after a decided slot, whose memories are those of the next one."""

    def lacks(self, node: Node) -> frozenset[int]:
        """The shards that this process holds without their memory."""

    def give(self, node: Node) -> None:
        """Send the memories that lie here to those who hold their shards from this slot on."""

    def is_needed(self, node: Node) -> bool:
        """Whether a member may still ask what was decided in the last slot."""

    def hear(self, node: Node, event: Arrived) -> bool:
        """A frame between servers, of this slot; True where it is one for `settle`."""

    def hear_past(self, node: Node, connection: Connection, frame: Frame) -> None:
        """A frame between servers, of a slot that is past.

        Raises:
            Equivocation: it says something else than what was applied.
        """

    def begin(self, generation: int) -> None:
        """A group begins."""

    def check(self, snapshot: Snapshot) -> None:
        """Raise ValueError for a state that cannot be taken over."""

    def restore(self, snapshot: Snapshot) -> None:
        """Hold what another member's state says beside that of the replica."""

    def names(self, slot: Slot) -> dict[str, str]:
        """What the memories that are here are called, by shard."""

    def state_dict(self, slot: Slot) -> dict[str, Any]:
        """The memories of worker and server, for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any], slot: Slot) -> None:
        """Take over those of a checkpoint.

        Raises:
            ValueError: they are of another run; nothing has been changed.
        """


def limits_of(replica: Replica) -> dict[FrameKind, int]:
    """The longest bodies, by kind, of frames from any peer; states come from those only who were asked for them.

    What optimizer and server keep for each number of the model is not known before it is there: there is room for much.
    """
    num = sum(p.numel() for p in replica.model.state_dict().values() if isinstance(p, Tensor))
    limits = dict.fromkeys(ROUND_FRAMES, SPARE_BYTES)
    limits |= dict.fromkeys(SHORT_FRAMES, SHORT_BYTES)
    limits |= dict.fromkeys((FrameKind.READY, FrameKind.WANT), LIST_BYTES)
    limits[FrameKind.BALLOT] += 2 * replica.ballot_bytes(Slot(), replica.number)
    return limits | dict.fromkeys(STATE_FRAMES, 16 * SPARE_BYTES + STATE_BYTES * num)


def check_step(step: Step, frame: Frame, num_bodies: int) -> None:
    """Raise ValueError for a step that was sent, but is none that anyone goes on from."""
    record = step.record
    if record.slot != frame.slot or record.applied != bool(num_bodies):
        raise ValueError("A step is of another slot, or its ballots are not those of its outcome.")
    if record.stops:
        raise ValueError("A step ends the run, which nobody goes on from.")
