"""Who takes part: the group as one process knows it, and how that changes. No messages here."""

import logging
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member, Proof
from gradvote.engines.elastic.consensus.records import Record
from gradvote.engines.elastic.counts import RunCounts
from gradvote.engines.elastic.signing.names import Naming, convicts
from gradvote.engines.elastic.timeouts import Excluded, Replaced

LOG = logging.getLogger("gradvote.elastic")


@dataclass(frozen=True)
class GroupState:
    """The group as process `me` knows it before a slot.

    `members` by ticket are those of the slot, `inside` says whether this process is one of them. `counted` has by
    ticket the slot in which a process was last counted, `proofs` by number who has lied, `suspects` the tickets of
    those who named what nobody has signed in the slot before.
    """

    me: Member
    generation: int = 0
    slot: Slot = field(default_factory=Slot)
    members: Mapping[int, Member] = field(default_factory=dict)
    counted: Mapping[int, Slot] = field(default_factory=dict)
    proofs: Mapping[int, Proof] = field(default_factory=dict)
    suspects: frozenset[int] = frozenset()
    inside: bool = False


class Membership:
    """The state of the group, and its transitions; each of them is a line of the debug log."""

    def __init__(self, number: int, naming: Naming, counts: RunCounts) -> None:
        self.state, self.naming, self._counts = GroupState(Member(0, number)), naming, counts

    def begin(self, ticket: int) -> None:
        """This process is known by `ticket` from now on."""
        self._change("begins", me=Member(ticket, self.state.me.number))

    def resume(self, slot: Slot) -> None:
        """Stand before the slot of a checkpoint."""
        self._change("resumes", slot=slot)

    def enter(self, generation: int, slot: Slot, members: Iterable[Member], counted: Mapping[int, Slot]) -> None:
        """Stand before a slot of a group, as one of its members or not.

        Raises:
            Replaced: a newer process is this worker.
        """
        self._change("enters", generation=generation, slot=slot, counted=dict(counted))
        self._go_on_with(tuple(members))

    def follow(self, record: Record, left: Set[int]) -> None:
        """Go on to the slot after a decision; `left` are the processes that have said that they leave.

        Raises:
            Excluded: the record proves that this worker has lied.
            Replaced: a newer process is this worker.
        """
        self.convict(record.proofs)
        self._counts.decided(record, self.state.members, left)
        counted = {t: record.slot for t in self.state.members if t in record.counted}
        self._change("goes on", slot=record.next, counted={**self.state.counted, **counted})
        self._go_on_with(record.members)

    def step_out(self) -> None:
        """The others have gone on without this process: it has to learn."""
        self._change("is outside", inside=False)

    def step_in(self) -> None:
        """This process is as the others are again, in the slot that it stands before."""
        self._change("is back", inside=self.state.me.ticket in self.state.members)

    def suspect(self, tickets: Iterable[int]) -> None:
        """In the coming slot, nobody waits for these."""
        self._change("suspects", suspects=frozenset(tickets))

    def convict(self, proofs: Iterable[Proof]) -> bool:
        """Take note of those who signed two ballots; False at the first proof that is none, the rest is not looked at.

        Raises:
            Excluded: it was this worker.
        """
        for proof in proofs:
            number = proof.author.number
            if number in self.state.proofs:
                continue
            if not convicts(self.naming, proof):
                return False
            if number == self.state.me.number:
                raise Excluded(
                    f"{proof} (attempt {proof.slot.attempt}): that is this worker. The run goes on without it, for "
                    "good. Another process may use its key, or its machine is at fault: look into both."
                )
            self._change("convicts", proofs={**self.state.proofs, number: proof})
            self._counts.add(number, "lied")
            self._counts.note(self.state.slot.step, f"{proof}; it is left out for good")
        return True

    def admits(self, number: int) -> bool:
        """Whether a worker may be a member: it has not been convicted, and its signature could be checked."""
        return number not in self.state.proofs and self.naming.knows(number)

    def _go_on_with(self, members: tuple[Member, ...]) -> None:
        me = self.state.me
        own = {m.ticket: m for m in members}
        self._change("knows its members", members=own, inside=me.ticket in own)
        if any(m.number == me.number and m.ticket > me.ticket for m in members):
            raise Replaced(f"Another process is worker {me.number} now; this one was gone too long and must end.")

    def _change(self, what: str, **values: object) -> None:
        self.state = replace(self.state, **values)  # type: ignore[arg-type]  # each caller names fields of the state
        LOG.debug("worker %d %s: %s", self.state.me.number, what, values)
