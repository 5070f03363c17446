"""A worker's part in votes that go on while workers die, stall, lie and come back."""

import contextlib
import queue
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gradvote.engines.common.recipe import check_saved
from gradvote.engines.distributed.digests import Equivocation
from gradvote.engines.elastic import founding, moving
from gradvote.engines.elastic.ballots import Ballot
from gradvote.engines.elastic.checks import limits_of
from gradvote.engines.elastic.delivery import deliver
from gradvote.engines.elastic.frames import Frame, Kind
from gradvote.engines.elastic.group import Group
from gradvote.engines.elastic.learning import Learner
from gradvote.engines.elastic.links import Event
from gradvote.engines.elastic.mesh import Mesh
from gradvote.engines.elastic.parcels import Decided, Entry
from gradvote.engines.elastic.records import Member, Outcome, Record, Slot
from gradvote.engines.elastic.register import Register, RegisterLost
from gradvote.engines.elastic.replica import VERSION, Replica
from gradvote.engines.elastic.rounds import Round
from gradvote.engines.elastic.seals import SIGNED, Seals
from gradvote.engines.elastic.sharding import SHARDED, Sharding
from gradvote.engines.elastic.tallies import Stats
from gradvote.engines.elastic.timeouts import Timeouts, TooFewWorkers
from gradvote.engines.elastic.trays import Whole
from gradvote.engines.stopping import signals_call

if TYPE_CHECKING:
    pass

LEAVING = 1.0
"""The longest that a worker which was asked to stop stays for what the others still want of it, in seconds."""


class Vote:
    """A worker's part in the votes: a context manager, which joins on entry and tells the others when it leaves."""

    def __init__(
        self,
        replica: Replica,
        register: Register,
        host: str,
        quorum: int,
        num_expected: int,
        times: Timeouts,
        seals: Seals,
        sharding: Sharding | None = None,
    ) -> None:
        inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        recipe, limits = replica.protocol.recipe ^ (SIGNED if seals.signed else 0), limits_of(replica, sharding)
        if sharding is not None:
            recipe ^= SHARDED + sharding.num
        mesh = Mesh(register, host, recipe, inbox, limits)
        self._group = Group(replica, register, mesh, inbox, quorum, times, seals, sharding)
        self._round: Round | None = None
        self._num_expected = num_expected
        self._until: int | None = None
        self._signals = contextlib.ExitStack()

    @property
    def worker(self) -> int:
        """This worker's number: it keeps it over restarts."""
        return self._group.me.number

    @property
    def step_number(self) -> int:
        """The step that the group is about to take."""
        return self._group.slot.step

    @property
    def members(self) -> tuple[int, ...]:
        """The numbers of the workers of this step."""
        return tuple(sorted(m.number for m in self._group.members.values()))

    @property
    def stopping(self) -> bool:
        """Whether `stop`, SIGTERM or Ctrl-C asked this worker to leave after its step."""
        return self._group.leaving

    def stop(self) -> None:
        """Leave after the step in progress; `steps` ends. Whatever waits for others meanwhile soon gives up."""
        self._group.leaving = True

    def steps(self, until: int) -> Iterator[int]:
        """The steps this worker takes part in, up to `until`; numbers are missing where it was away."""
        self._until = until
        while self.step_number < until and not self.stopping:
            yield self.step_number

    def step(self) -> None:
        """One vote on the gradients of now, and the optimizer's step with what was agreed on.

        On return this worker is a member again, even if it was left out meanwhile; its gradient of then is in its error
        memory, where the algorithm has one. A worker that was asked to stop does not wait for what cannot come soon
        (a member that has left, too): it returns without the step, with all as it was before.

        Raises:
            Equivocation: a worker told different things to different members, in a run without signatures; nothing was
                applied.
            Excluded: that was this worker, in a run with signatures.
            TooFewWorkers: fewer than `min_workers` for too long, or this worker has left; nothing was applied.
            ShardLost: both holders of a shard ended within this step (placement `sharded`); nothing was applied.
            RegisterLost: the store is gone, and something out of the ordinary had to be agreed on.
        """
        if self.stopping and not self._group.inside:
            raise TooFewWorkers(
                f"Worker {self.worker} was asked to stop and has left the run at step {self.step_number}. End the loop "
                "where vote.stopping is true, as `for step in vote.steps(...)` does."
            )
        while True:
            if not self._group.inside:
                return self._learn(self._ballot())
            vote = self._round = self._open_round() or Round(self._group, self._ballot())
            record = vote.run()
            if record is None or not self._finish(record, vote):
                return self._learn(vote.ballot)
            if record.outcome == Outcome.APPLY:
                return None if self._group.inside else self._learn(None)

    def _open_round(self) -> Round | None:
        """The round that an error has interrupted."""
        return self._round if self._round is not None and self._round.open else None

    def _ballot(self) -> Ballot:
        """The vote of now; one that was sent in this round stands."""
        interrupted = self._open_round()
        return self._group.replica.vote(self._group.slot) if interrupted is None else interrupted.ballot

    def stats(self) -> Stats:
        """What this worker has seen since it joined."""
        group, t = self._group, self._group.tallies
        sent, received = group.mesh.traffic()
        return Stats(
            self.step_number, self.members, t.steps, t.retried, t.slow, sent, received, dict(t.workers), tuple(t.notes)
        )

    def state_dict(self) -> dict[str, Any]:
        """The step, this worker's memory and the server's; save it beside model and optimizer."""
        replica = self._group.replica
        about = {"version": VERSION, "recipe": replica.protocol.recipe_text, "worker_number": self.worker}
        sharding = self._group.sharding
        shards = {"shards": sharding.state_dict(self._group.slot)} if sharding is not None else {}
        return {**about, "step": self.step_number, **replica.state_dict(), **shards}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; before the `with` block, after model and optimizer were loaded.

        Raises:
            ValueError: it is of another run or worker, or this worker has joined already; nothing has been changed.
        """
        if self._group.me.ticket:
            raise ValueError("load_state_dict must be called before the worker joins: before the `with` block.")
        own = {"version": VERSION, "worker_number": self.worker}
        check_saved(state, self._group.replica.protocol, own, "Load the file of this worker.")
        slot = Slot(int(state["step"]))
        sharding = self._group.sharding
        memories = sharding.opened(state.get("shards"), slot) if sharding is not None else {}
        self._group.replica.load_state_dict(state)
        self._group.slot = slot
        if sharding is not None:
            sharding.memories = memories

    def __enter__(self) -> Self:
        group = self._group
        group.replica.rehearse(range(min(group.quorum, self._num_expected), self._num_expected + 1))
        group.me = Member(group.register.ticket(), group.me.number)
        self._signals.enter_context(signals_call(self.stop))
        if self.worker == 0:
            print(f"gradvote.elastic: at least {group.quorum} workers; {group.timeouts}", file=sys.stderr, flush=True)
        try:
            founding.join(group, self._num_expected)
        except BaseException:
            self._signals.close()
            group.mesh.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.close()
        group = self._group
        if kind is None and group.inside and self._until is not None and self.step_number >= self._until:
            with contextlib.suppress(RegisterLost):
                group.register.end(group.generation, self.step_number)
        if kind is None and not self.stopping:
            self._linger(lambda: group.num_waiting > 0)
        group.send(list(group.mesh.links), Frame(Kind.BYE, group.me.ticket, group.slot))
        if kind is None:
            self._linger(lambda: moving.is_needed(group))
        links = list(group.mesh.links.values())
        group.mesh.stop()
        if kind is None or issubclass(kind, Equivocation):  # the others must hear what this one knows
            self._linger(lambda: any(not link.idle for link in links))

    def _linger(self, needed: Callable[[], bool]) -> None:
        limit = self._group.timeouts.deadline
        end = time.monotonic() + (min(limit, LEAVING) if self.stopping else limit)
        while needed() and time.monotonic() < end:
            self._group.take(0.01)

    def _finish(self, record: Record, vote: Round) -> bool:
        """Take over a decided slot; False where this worker cannot by itself."""
        group = self._group
        group.convict(record.proofs)
        if record.outcome == Outcome.STOP:
            raise Equivocation(
                f"At step {record.slot.step} {record.text}: it sent different ones, or one of them says so falsely. "
                "Nothing was applied. Look at that worker's machine before starting again."
            )
        if record.outcome == Outcome.VOID:
            group.advance(Entry(record, {}) if group.sharding is None else Decided(record))
            return group.inside
        entry: Entry | Decided | None
        if not isinstance(vote.tray, Whole):
            entry = deliver(vote, record)
        elif all(vote.agreement.held.get(t) == name for t, name in record.counted.items()):
            entry = Entry(record, vote.tray.bodies(record.counted))
        else:
            entry = None
        if entry is None:
            return False
        Learner(group, False, vote.ballot).replay(entry)
        return True

    def _learn(self, pending: Ballot | None) -> None:
        Learner(self._group, False, pending, self._until).run()
