"""A worker's part in votes that go on while workers die, stall, lie and come back."""

import contextlib
import queue
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.errors import Equivocation, ParametersDiffer
from gradvote.engines.common.handles import Handle
from gradvote.engines.common.recipe import check_saved
from gradvote.engines.common.releases import account_of
from gradvote.engines.common.replica import VERSION
from gradvote.engines.common.signals import signals_call
from gradvote.engines.common.slot import Slot
from gradvote.engines.common.terms import mark_of, texts_of
from gradvote.engines.common.torch_modes import ordinary_tensors, uncompiled
from gradvote.engines.elastic import bootstrap
from gradvote.engines.elastic.catch_up.learning import Healer, Learner
from gradvote.engines.elastic.consensus.records import Record
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.counts import ElasticStats, RunCounts
from gradvote.engines.elastic.membership import Membership
from gradvote.engines.elastic.net.authentication import Credentials
from gradvote.engines.elastic.net.connections import Inbox
from gradvote.engines.elastic.net.mesh import Mesh
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.peers import Peers, bye
from gradvote.engines.elastic.refusals import tell_joined, told_to_the_launcher
from gradvote.engines.elastic.servers.server import Server
from gradvote.engines.elastic.signing.names import SIGNED, Naming
from gradvote.engines.elastic.timeouts import Timeouts, TooFewWorkers
from gradvote.engines.elastic.voting import VotingRound
from gradvote.privacy import Account

LEAVING = 1.0
"""The longest that a worker which was asked to stop stays for what the others still want of it, in seconds."""
STANDING = 100
"""How often one step comes from `steps` before something is said."""
AGAIN = (
    "Step {step} has come {times} times, as vote.step() was not called since. Call it after each backward pass, in "
    "place of optimizer.step(): without it nobody's model moves, and the loop never ends. Where so many backward "
    "passes are meant for one step, all is well."
)
_TOLD = (Equivocation, ParametersDiffer)
"""The others must hear what a worker knows that ends with one of these."""


class ElasticVote(Handle):
    """A worker's part in the votes: a context manager, which joins on entry and tells the others when it leaves."""

    def __init__(
        self,
        server: Server,
        register: Register,
        host: str,
        quorum: int,
        num_expected: int,
        times: Timeouts,
        naming: Naming,
        credentials: Credentials | None = None,
    ) -> None:
        inbox: Inbox = queue.SimpleQueue()
        replica = server.replica
        placed = type(server).__name__.lower() + (f" over {server.num_shards} workers" if server.num_shards else "")
        terms = {**replica.terms, "placement": placed, "min_workers": quorum}
        recipe = replica.protocol.recipe ^ (SIGNED if naming.signed else 0) ^ server.mark ^ mark_of(terms)
        mesh, counts = Mesh(register, host, recipe, inbox, server.limits(), credentials), RunCounts()
        membership = Membership(server.replica.number, naming, counts)
        self._node = Node(membership, Peers(mesh, inbox), register, quorum, times, counts, texts_of(terms))
        self._server, self._participant = server, Participant(self._node, server)
        self._round: VotingRound | None = None
        self._num_expected, self._odd = num_expected, frozenset[int]()
        self._until: int | None = None
        self._left = False
        self._signals = contextlib.ExitStack()

    @property
    def worker(self) -> int:
        """This worker's number: it keeps it over restarts."""
        return self._node.me.number

    @property
    def step_number(self) -> int:
        """The step that the group is about to take."""
        return self._node.slot.step

    @property
    def members(self) -> tuple[int, ...]:
        """The numbers of the workers of this step."""
        return tuple(sorted(m.number for m in self._node.members.values()))

    @property
    def stopping(self) -> bool:
        """Whether `stop`, SIGTERM or Ctrl-C asked this worker to leave after its step."""
        return self._node.leaving

    def stop(self) -> None:
        """Leave after the step in progress; `steps` ends. Whatever waits for others meanwhile soon gives up."""
        self._node.leave()

    def steps(self, until: int) -> Iterator[int]:
        """The steps this worker takes part in, up to `until`; numbers are missing where it was away.

        A step comes again until `step()` has taken it.
        """
        self._until, last, times = until, -1, 0
        while self.step_number < until and not self.stopping:
            self._check_entered("steps()")
            last, times = self.step_number, times + 1 if self.step_number == last else 1
            if times == STANDING:
                warnings.warn(AGAIN.format(step=last, times=times), stacklevel=2)
            yield last

    @uncompiled
    @ordinary_tensors()
    def step(self) -> None:
        """One vote on the gradients of now, and the optimizer's step with what was agreed on.

        On return this worker is a member again, even if it was left out meanwhile; its gradient of then is in its error
        memory, where the algorithm has one. A worker that was asked to stop does not wait for what cannot come soon
        (a member that has left, too): it returns without the step, with all as it was before.

        Raises:
            Equivocation: a worker told different things to different members, in a run without signatures; nothing was
                applied.
            ParametersDiffer: members hold different parameters, and no more than half the same; nothing was applied.
            Excluded: that was this worker, in a run with signatures.
            TooFewWorkers: fewer than `min_workers` for too long, or this worker has left; nothing was applied.
            ShardLost: nobody that is left can tell the decision on a shard, and too few are left to take the step
                again, or one that ended may have applied it (placement `sharded`); nothing was applied.
            RegisterLost: something out of the ordinary had to be agreed on, and the register is silent (`timeout`).
        """
        self._check_entered("step()")
        if self.stopping and not self._node.inside:
            raise TooFewWorkers(
                f"Worker {self.worker} was asked to stop and has left the run at step {self.step_number}. End the loop "
                "where vote.stopping is true, as `for step in vote.steps(...)` does."
            )
        self._odd = frozenset()
        while True:
            if not self._node.inside:
                return self._learn(self._ballot())
            vote = self._round = self._open_round() or VotingRound(self._participant, self._ballot())
            record = vote.run()
            if record is not None:
                record = self._finish(record, vote)
            if record is None:
                return self._learn(vote.ballot)
            if record.applied:
                del vote
                self._round = None  # its ballots are not kept until the next one
                return self._go_on()

    def _open_round(self) -> VotingRound | None:
        """The round that an error has interrupted."""
        return self._round if self._round is not None and self._round.open else None

    def _ballot(self) -> Ballot:
        """The vote of now; one that was sent in this round stands."""
        interrupted = self._open_round()
        return self._server.replica.vote(self._node.slot) if interrupted is None else interrupted.ballot

    @property
    def account(self) -> Account | None:
        """What this worker's ballots have cost so far, under `privacy`."""
        return account_of(self._server.replica.releases)

    def stats(self) -> ElasticStats:
        """What this worker has seen since it joined."""
        t = self._node.counts
        sent, received = self._node.mesh.traffic()
        return ElasticStats(
            self.step_number, self.members, t.steps, t.retried, t.slow, sent, received, dict(t.workers), tuple(t.notes),
            dict(self._node.mesh.gate.refused),
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The step, this worker's memory and the server's; save it beside model and optimizer."""
        about = {"version": VERSION, "recipe": self._server.replica.protocol.recipe_text, "worker_number": self.worker}
        return {**about, "step": self.step_number, **self._server.state_dict(self._node.slot)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; before the `with` block, after model and optimizer were loaded.

        Raises:
            ValueError: it is of another run or worker, or this worker has joined already; nothing has been changed.
        """
        if self._node.me.ticket:
            raise ValueError("load_state_dict must be called before the worker joins: before the `with` block.")
        own = {"version": VERSION, "worker_number": self.worker}
        check_saved(state, self._server.replica.protocol, own, "Load the file of this worker.")
        slot = Slot(int(state["step"]))
        self._server.load_state_dict(state, slot)
        self._node.membership.resume(slot)

    def _told(self) -> tuple[str, object]:
        told = f"worker {self.worker}, members {self.members}, step {self.step_number}"
        return told, self._server.replica.protocol.algorithm

    def _check_entered(self, what: str) -> None:
        if self._left or not (self._node.me.ticket or self._node.inside):
            when = "after its `with` block" if self._left else "before the vote was entered"
            raise RuntimeError(
                f"{what} was called {when}: this worker is no member of the run. Keep the loop inside `with vote:` (of "
                "local steps: `with local:`), which joins it."
            )

    def __enter__(self) -> Self:
        node = self._node
        if node.me.ticket:
            raise RuntimeError(
                "This vote was entered already, and that is done once. Keep the whole loop in one `with vote:` block; "
                "to join again after it, attach anew."
            )
        self._server.replica.rehearse(range(min(node.quorum, self._num_expected), self._num_expected + 1))
        node.membership.begin(node.register.ticket())
        self._signals.enter_context(signals_call(self.stop))
        if self.worker == 0:
            how = "encrypted, with certificates" if node.mesh.credentials else "neither encrypted nor authenticated"
            text = f"gradvote.elastic: at least {node.quorum} workers; {node.timeouts}; connections: {how}"
            print(f"{text}, at {node.mesh.host}", file=sys.stderr, flush=True)
        try:
            with told_to_the_launcher():
                bootstrap.join(self._participant, self._num_expected)
            tell_joined()
        except BaseException:
            self._signals.close()
            node.mesh.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.close()
        node, self._left = self._node, True
        if kind is None and node.inside and self._until is not None and self.step_number >= self._until:
            with contextlib.suppress(RegisterLost):
                node.register.end(node.generation, self.step_number)
        if kind is None:
            self._linger(lambda: self._is_learned_from)
        node.peers.send(list(node.peers.connections), bye(node.me.ticket, node.slot))
        if kind is None:
            self._linger(lambda: self._server.is_needed(node))
        connections = list(node.mesh.connections.values())
        node.mesh.stop()
        if kind is None or issubclass(kind, _TOLD):
            self._linger(lambda: any(not connection.idle for connection in connections))

    @property
    def _is_learned_from(self) -> bool:
        """Whether others have yet to take over the state that this worker ends with: members that heal, newcomers."""
        peers = self._node.peers
        heals = self._odd & peers.connections.keys() - peers.left
        return bool(heals) or (not self.stopping and peers.num_waiting(self._node.members) > 0)

    def _linger(self, needed: Callable[[], bool]) -> None:
        limit = self._node.timeouts.deadline
        end = time.monotonic() + (min(limit, LEAVING) if self.stopping else limit)
        while needed() and time.monotonic() < end:
            self._participant.take(0.01)

    def _finish(self, record: Record, vote: VotingRound) -> Record | None:
        """Take over a decided slot: what has become of it; None where this worker cannot by itself."""
        node = self._node
        node.membership.convict(record.proofs)
        if record.stops:
            raise Equivocation(
                f"At step {record.slot.step} {record.text}: it sent different ones, or one of them says so falsely. "
                "Nothing was applied. Look at that worker's machine before starting again."
            )
        step = self._server.given_up(record)
        if record.applied:
            self._odd = vote.compare(record)
            settled = vote.settle(record)
            if settled is None:
                return None
            step = settled
        if not step.record.applied:
            self._participant.advance(step)
            return step.record if node.inside else None
        self._participant.apply(step, vote.ballot)
        return step.record

    def _go_on(self) -> None:
        """This worker has taken its step: it heals, or learns, where it has to."""
        if self._node.inside and self._node.me.ticket in self._odd:
            Healer(self._participant, self._odd, self._until).run()
        elif not self._node.inside:
            self._learn(None)

    def _learn(self, pending: Ballot | None) -> None:
        Learner(self._participant, False, pending, self._until).run()
