"""One process of a run: what it knows of the group, its peers, and what was decided lately. It answers no messages."""

from collections.abc import Mapping
from types import MappingProxyType

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.counts import RunCounts
from gradvote.engines.elastic.membership import Membership
from gradvote.engines.elastic.net.connections import Arrived
from gradvote.engines.elastic.net.gate import Allowance
from gradvote.engines.elastic.net.mesh import Mesh
from gradvote.engines.elastic.peers import A_FAULT, Peers
from gradvote.engines.elastic.signing.names import Naming
from gradvote.engines.elastic.snapshots import StepLog
from gradvote.engines.elastic.timeouts import RunEnded, Timeouts

AHEAD, NOTE = 16, 300
"""How many steps ahead a frame may be; how long a note is."""
LOOK_UPS = 4, 2.0
"""How often the register is asked whether a peer is right, at once and in a second."""
NO_TERMS: Mapping[str, str] = MappingProxyType({})
SURELY_ENDED = 1.0
"""After so many seconds without anyone to learn from, the register is asked whether the run has ended."""


class Node:
    """What servers and those who answer for them may use of a process."""

    def __init__(
        self,
        membership: Membership,
        peers: Peers,
        register: Register,
        quorum: int,
        timeouts: Timeouts,
        counts: RunCounts,
        terms: Mapping[str, str] = NO_TERMS,
    ) -> None:
        self.membership, self.peers, self.register = membership, peers, register
        self.quorum, self.timeouts, self.counts, self.terms = quorum, timeouts, counts, dict(terms)
        self.log, self._leaving, self._looks_up = StepLog(), False, Allowance(*LOOK_UPS)

    @property
    def me(self) -> Member:
        """This process."""
        return self.membership.state.me

    @property
    def slot(self) -> Slot:
        """The round it is about to take part in."""
        return self.membership.state.slot

    @property
    def generation(self) -> int:
        """The group that the slot is one of."""
        return self.membership.state.generation

    @property
    def inside(self) -> bool:
        """Whether it is a member."""
        return self.membership.state.inside

    @property
    def members(self) -> Mapping[int, Member]:
        """The members of the slot, by ticket."""
        return self.membership.state.members

    @property
    def mesh(self) -> Mesh:
        """Its connections."""
        return self.peers.mesh

    @property
    def naming(self) -> Naming:
        """How ballots are named."""
        return self.membership.naming

    @property
    def leaving(self) -> bool:
        """Whether it was asked to stop, and waits for nobody who may stay away."""
        return self._leaving

    def leave(self) -> None:
        """It is asked to stop."""
        self._leaving = True

    @property
    def joining(self) -> tuple[Member, ...]:
        """The processes that can be let in now."""
        return tuple(m for m in self.peers.joining(self.membership.state) if self.membership.admits(m.number))

    def fault(self, event: Arrived, what: str, text: str) -> None:
        """Count, and say, that something a worker sent was wrong."""
        number = event.connection.peer.number
        self.counts.add(number, what)
        self.peers.allows(event.connection, A_FAULT)
        self.counts.note(self.slot.step, f"a {event.frame.kind.name.lower()} from worker {number} {text[:NOTE]}")

    def is_behind(self, slot: Slot, other: Slot) -> bool:
        """Whether the group has gone on from a slot without this process, as a peer says that stands before another.

        A peer's word is not enough. Members only go on without one of them by the register: it has decided either that
        slot or the next one, or has confirmed that slot or given it up, or there is a new group.
        """
        if other <= slot or not self._looks_up.take():
            return False
        try:
            decided = any(self.register.decision(self.generation, s) for s in (slot, slot.after(True)))
            decided = decided or self.register.confirmed(self.generation, slot) is not None
            return decided or self.register.generation() > self.generation
        except RegisterLost:
            return False

    def is_near(self, slot: Slot) -> bool:
        """Whether others may be in this slot while this process is in its own, by a member's word alone.

        A worker gone bad can write a decision on a slot that nobody has reached, and tell of it.
        """
        return slot.step <= self.slot.step + AHEAD

    def keep_early(self, event: Arrived) -> None:
        """Keep a frame of a coming slot until then."""
        step = event.frame.slot.step
        if not self.is_near(event.frame.slot) or not self.peers.keep(event):
            self.fault(event, "stale", f"is for step {step}, far ahead of step {self.slot.step}")

    def stale(self, event: Arrived) -> None:
        """A ballot for a slot that is past: late, or sent again."""
        frame, step = event.frame, self.log.find(event.frame.slot)
        if step is not None and frame.author in step.record.counted:
            self.fault(event, "replayed", f"repeats that of step {frame.slot.step}, which has counted already")
        else:
            self.counts.add(event.connection.peer.number, "stale")

    def check_not_ended(self, waited: float) -> None:
        """Raise RunEnded where the others have finished: called where none of them can be learned from."""
        try:
            end = self.register.ended() if waited > SURELY_ENDED else None
        except RegisterLost:  # it is asked again
            end = None
        if end is not None and self.slot.step < end:
            raise RunEnded(
                f"The run ended with step {end} while worker {self.me.number} was away. The final state is what the "
                "others have saved."
            )
