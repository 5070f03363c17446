"""The books of a worker's unsent gradient, kept beside the engine, and what it found wrong with others."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradvote.elastic import ElasticVote
from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.records import Outcome
from gradvote.engines.elastic.consensus.shard_assignment import sources
from gradvote.engines.elastic.snapshots import Step

MU = 0.9
WRONGS = ("corrupted", "malformed", "stale", "replayed", "forged")
Write = Callable[[dict[str, Any]], None]


def leaves(state: Any, key: str) -> list[Tensor]:
    """The tensors of this name in a worker's state, in order."""
    if isinstance(state, list):
        return [t for own in state for t in leaves(own, key)]
    if not isinstance(state, dict):
        return []
    return [t for k, v in state.items() for t in ([v] if k == key else leaves(v, key))]


class Ledger:
    """dist-EF-SGDM at a constant rate, by its paper, tensor by tensor.

    m ← μm + g; p = g + μm + e; then e ← p − (‖p‖₁/n)·sign(p) if the ballot counted, else e ← p; nothing else may
    touch e, and no gradient that was voted on may vanish. With NaN in the gradient nothing changes.
    """

    def __init__(self, vote: ElasticVote, write: Write) -> None:
        self.replica, self.write = vote._server.replica, write
        self.vote, self.keep, self.advance = self.replica.vote, self.replica.keep, vote._participant.advance
        self.participant = vote._participant
        self.books = self._memory()
        self.open: tuple[Slot, list[Tensor]] | None = None
        self.replica.vote, self.replica.keep = self._voting, self._keeping  # type: ignore[method-assign]
        self.participant.advance = self._advancing  # type: ignore[method-assign]

    def _memory(self) -> list[tuple[Tensor, Tensor]]:
        algorithm = self.replica.protocol.algorithm
        momenta, memories = leaves(self.replica.worker, "momentum"), map(algorithm.unsent, self.replica.worker)
        return [(m.clone(), e.clone()) for m, e in zip(momenta, memories, strict=True) if e is not None]

    def _voting(self, slot: Slot) -> Ballot:
        for (m, e), (momentum, memory) in zip(self.books, self._memory(), strict=True):
            assert torch.equal(m, momentum) and torch.equal(e, memory), f"a memory changed between votes, at {slot}"
        assert self.open is None or self.open[0].step == slot.step, f"the gradient of {self.open[0]} was lost"
        layout = self.replica.protocol.layout
        flat = torch.zeros(layout.size)
        layout.flatten([p.grad for p in self.replica.params if p.grad is not None], out=flat)
        self.open = slot, [view.clone() for view in layout.views(flat)]
        return self.vote(slot)

    def _keeping(self, ballot: Ballot, counted: bool) -> None:
        self.keep(ballot, counted)
        assert self.open is not None and self.open[0] == ballot.slot, f"a ballot of {ballot.slot} was kept twice"
        after = self._memory()
        for g, (m, e), (_, memory) in zip(self.open[1], self.books, after, strict=True):
            torch.testing.assert_close(memory, expected_memory(g, m, e, counted, memory), rtol=1e-4, atol=1e-5)
        self.books, self.open = after, None
        self.write({"kept": [ballot.slot.step, ballot.slot.attempt, counted]})

    def _advancing(self, step: Step) -> None:
        slot, counted = step.record.slot, sorted(self.participant.node.members[t].number for t in step.record.counted)
        self.advance(step)
        if step.record.outcome == Outcome.APPLY:
            self.write({"applied": [slot.step, slot.attempt, counted]})
        for shard, source in enumerate(sources(step.record.holders, step.record.moves)):
            if source is None:
                self.write({"lost": [slot.step, slot.attempt, shard]})


def expected_memory(g: Tensor, m: Tensor, e: Tensor, counted: bool, found: Tensor) -> Tensor:
    """The error memory after a vote (B, n); a zero votes at random, so the sign of what is `found` there is right."""
    p = g + MU * (MU * m + g) + e
    sign = torch.where(p == 0, -found.sign(), p.sign())
    after = p - p.abs().mean(-1, keepdim=True) * sign if counted else p
    return torch.where(p.isfinite().all(-1, keepdim=True), after, e)


class Findings:
    """Writes a line for whatever was found wrong with what a worker sent."""

    def __init__(self, vote: ElasticVote, write: Write) -> None:
        counts = vote._node.counts
        add = counts.add

        def adding(number: int, what: str) -> None:
            add(number, what)
            if what in WRONGS:
                write({"found": [what, number, vote.step_number]})

        counts.add = adding  # type: ignore[method-assign]
