"""One slot with the others: does what `Agreement`, which decides, asks for, and finds whose parameters differ."""

import logging
from collections.abc import Mapping
from dataclasses import astuple

from gradvote.engines.common.errors import Equivocation, ParametersDiffer
from gradvote.engines.common.parameter_check import ParameterCheck, usual
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.absences import Reason, Why
from gradvote.engines.elastic.consensus.agreement import Forward, Propose, Tell
from gradvote.engines.elastic.consensus.records import Record, held_to_json
from gradvote.engines.elastic.hearing import HeardRound
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.snapshots import Step
from gradvote.engines.elastic.timeouts import TooFewWorkers

LOG = logging.getLogger("gradvote.elastic")


class VotingRound(HeardRound):
    """`run` gives the decision; None where the others have gone on without this process, or it is to stop.

    After an error it can be run again, and must be: what this process has promised to the others still binds it.
    """

    def run(self) -> Record | None:
        """Until the slot is decided.

        Raises:
            TooFewWorkers: the group stayed too small for too long.
            RegisterLost: it had to decide, and did not answer for as long.
            Equivocation: somebody has told different things to different members.
        """
        node, agreement = self.node, self.agreement
        if self.stopped is not None:
            raise self.stopped
        self._clock.start()
        self._begin()
        while not self.behind and agreement.decision is None:
            self._act()
            if agreement.decision is None and self._gives_up:
                break
            if agreement.decision is None:
                for event in self.events(self._clock.patience):
                    self._handle(event)
                self._look()
        node.counts.slow += agreement.slow
        node.membership.suspect(agreement.doubted)
        node.membership.convict(agreement.proofs.values())
        LOG.debug("step %d, attempt %d: decided %s", *astuple(self.slot), agreement.decision)
        return agreement.decision

    def compare(self, record: Record) -> frozenset[int]:
        """The members, by ticket, whose parameters are not those of most, as the ballots that count say.

        Where one of these ballots is not here, nobody is known to differ.

        Raises:
            ParametersDiffer: no more than half are alike; and whoever runs this round again hears the same.
        """
        checks = self.box.checks(record.counted)
        if checks is None or len(set(checks.values())) < 2:
            return frozenset()
        try:
            return differing(self.node, self.slot, self.server.replica.check, checks)
        except ParametersDiffer as error:
            self.stopped = error
            raise

    def settle(self, record: Record) -> Step | None:
        """What the ballots that count come to; see `Server.settle`.

        Raises:
            Equivocation: and whoever runs this round again hears the same.
        """
        try:
            return self.server.settle(self, record)
        except Equivocation as error:
            self.stopped = error
            raise

    def _begin(self) -> None:
        """Tell the agreement what is known already, and the others this worker's ballot."""
        node, agreement = self.node, self.agreement
        agreement.ballot(self.me, self.box.name(self.me))
        agreement.lacking(self.server.lacks(node))
        for proof in node.membership.state.proofs.values():
            agreement.convict(proof)
        for ticket in node.members.keys() - node.peers.connections.keys() - {self.me}:
            agreement.lost(ticket)
        self._send_ballot(self._others)
        agreement.joining = node.joining
        for early in node.peers.due(node.slot):
            self._handle(early)
        for event in self.events(0.0):  # who is alone decides without waiting, and would never hear who asks to come in
            self._handle(event)

    @property
    def _gives_up(self) -> bool:
        """Whether a process that was asked to stop would wait for others that have left, or for long.

        All is as it was before the step then, and to the others this process has died: they decide without it.
        """
        node = self.node
        here = self.agreement.members.keys() - self.agreement.gone - node.peers.left
        return node.leaving and (len(here) < node.quorum or self._clock.late)

    def _look(self) -> None:
        try:
            self._clock.look(self.agreement)
        except TooFewWorkers:
            if self._lost is not None:  # that is why
                raise self._lost from None
            raise

    def _act(self) -> None:
        for action in self.agreement.actions():
            LOG.debug("step %d, attempt %d, worker %d: %s", *astuple(self.slot), self.node.me.number, action)
            if isinstance(action, Tell):
                body = held_to_json(action.held, action.closed, action.proofs, action.lacks, action.seen).encode()
                self.node.peers.send(self._others, Frame(FrameKind.HELD, self.me, self.slot, body))
            elif isinstance(action, Forward):
                self.node.peers.send([action.to], self.box.frame(action.author, action.to))
            elif isinstance(action, Propose):
                self._propose(action.record)


def differing(node: Node, slot: Slot, check: ParameterCheck, checks: Mapping[int, bytes]) -> frozenset[int]:
    """The tickets of those whose digests are not those of most; they are counted and named.

    Raises:
        ParametersDiffer: no more than half are alike.
    """
    most, where = usual(checks), check.names(slot.step)
    numbers = {ticket: node.members[ticket].number for ticket in checks}
    if most is None:
        camps = sorted(sorted(numbers[t] for t, own in checks.items() if own == said) for said in set(checks.values()))
        sides = " and ".join(f"worker {', '.join(map(str, camp))}" for camp in camps)
        raise ParametersDiffer(
            f"At step {slot.step} the parameters differ between {sides}, in {where}, and no more than half are alike, "
            "so that nobody can tell who is right. Nothing was applied in this step. A bit has turned in a memory, or "
            "a script changes values on some workers only; start again from the last checkpoints."
        )
    odd = frozenset(ticket for ticket, said in checks.items() if said != most)
    sound = tuple(sorted(numbers[t] for t in checks.keys() - odd))
    for ticket in sorted(odd, key=numbers.__getitem__):
        reason = Reason(numbers[ticket], Why.DIFFERS, sound)
        node.counts.add(reason.number, "differed")
        node.counts.note(
            slot.step, f"worker {reason.number} takes over the state of the others: {reason.evidence}, in {where}"
        )
    return odd
