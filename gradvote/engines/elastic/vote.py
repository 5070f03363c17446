"""`gradvote.elastic.attach`: training that goes on while workers die, stall, lie and come back."""

import contextlib
import queue
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed import Store  # type: ignore[attr-defined]  # documented, but not in its `__all__`
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common.recipe import difference
from gradvote.engines.distributed.digests import Equivocation
from gradvote.engines.elastic import founding, moving
from gradvote.engines.elastic.ballots import Ballot
from gradvote.engines.elastic.checks import Placement, check_fault, check_placement, check_weights, limits_of
from gradvote.engines.elastic.delivery import deliver
from gradvote.engines.elastic.environment import HOST, MIN_WORKERS, WORKERS, env, number_of, seals_of, store_of
from gradvote.engines.elastic.frames import Frame, Kind
from gradvote.engines.elastic.group import Group
from gradvote.engines.elastic.learning import Learner
from gradvote.engines.elastic.links import Event
from gradvote.engines.elastic.mesh import Mesh
from gradvote.engines.elastic.parcels import Decided, Entry
from gradvote.engines.elastic.records import Member, Outcome, Record, Slot
from gradvote.engines.elastic.register import Register, RegisterLost
from gradvote.engines.elastic.replica import VERSION, Replica, check_given
from gradvote.engines.elastic.rounds import Round
from gradvote.engines.elastic.seals import SIGNED, Seals
from gradvote.engines.elastic.sharding import SHARDED, Sharding
from gradvote.engines.elastic.tallies import Stats
from gradvote.engines.elastic.timeouts import Timeouts, TooFewWorkers
from gradvote.engines.elastic.trays import Whole
from gradvote.engines.stopping import signals_call
from gradvote.faults import Faulty

if TYPE_CHECKING:
    from gradvote.engines.elastic.signing import Keys

LEAVING = 1.0
"""The longest that a worker which was asked to stop stays for what the others still want of it, in seconds."""


def attach(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    algorithm: Algorithm,
    *,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
    min_workers: int | None = None,
    deadline: float = 2.0,
    seed: int = 0,
    secret: bytes | None = None,
    worker: int | None = None,
    workers: int | None = None,
    store: Store | str | None = None,
    host: str | None = None,
    timeouts: Timeouts | None = None,
    faults: Sequence[Faulty] = (),
    keys: "Keys | Path | str | None" = None,
    placement: Placement = "replicated",
) -> "Vote":
    """Let workers vote that may come and go; `step()` exchanges ballots and takes the optimizer's step.

        with gradvote.elastic.attach(model, optimizer, gradvote.algorithms.dropsignsgd(), min_workers=4) as vote:
            for step in vote.steps(1000):
                optimizer.zero_grad()
                loss(model, batch(vote.worker, step)).backward()
                vote.step()

    A step counts the ballots that arrived within `deadline` seconds, if they are at least `min_workers`; which ones is
    agreed on before anything is applied, and all members are bit-identical after every step. A worker that was away
    pulls what it missed and takes part again.

    `placement` says where the server's memory is. `replicated`: whole in every worker, each of which gets all ballots
    and decides for itself. `sharded`: cut into as many shards as workers are expected at the start, each held by a
    server and a buddy; only these two get its part of a ballot, and tell all what was decided.

    `worker` is this worker's number and `workers` how many are expected at the start; `gradvote launch` and torchrun
    give both, and the former `min_workers`. `store` is a torch Store, or HOST:PORT of one, that outlives the workers.
    `host` is the address to listen at; `faults` are lies of workers about their gradients, to try them. `secret` keys
    this worker's private draws; None derives them from the seed. `scaler` is the `torch.amp.GradScaler` of the loop:
    `step()` takes the place of its `step` and `update`, and each worker has a scale of its own. `max_norm` bounds the
    norm of this worker's own gradient before the vote. Connections are neither encrypted nor authenticated.
    `keys` is a folder of `gradvote keys`: all ballots are signed (Ed25519), and a worker that sends different ones is
    left out for good, where it stops the run otherwise. All workers sign, or none.

    Raises:
        TypeError: something else than expected was given.
        ValueError: nothing to train, a rule that needs whole gradients, a parameter that the optimizer does not have,
            keys that are missing or do not fit, or a number that makes no sense.
        MissingExtra: there are keys, but not the extra `signed`.
    """
    check_given(model, optimizer, algorithm)
    quorum = int(env(MIN_WORKERS) or 0) if min_workers is None else min_workers
    if quorum < 1:
        raise ValueError(
            f"attach needs min_workers, at least 1: the fewest ballots that make a step; got {min_workers}. "
            "`gradvote launch --workers 3 --min-workers 2 train.py` starts a script with it; a script that is started "
            "by itself gives min_workers= and store=."
        )
    times = timeouts or Timeouts(deadline, grace=min(0.2, deadline / 4))
    register = Register(store_of(store, times.timeout))
    number = number_of(worker, register)
    expected = workers or int(env(WORKERS, "WORLD_SIZE") or quorum)
    check_weights(algorithm, number)
    for faulty in faults:
        check_fault(faulty, expected)
    check_placement(placement)
    lies = tuple(faults), expected
    replica = Replica(model, optimizer, algorithm, number, seed, secret, lies, scaler, max_norm)
    sharding = Sharding(replica, expected) if placement == "sharded" else None
    seals = seals_of(keys, number, register)
    return Vote(replica, register, host or env(HOST) or "127.0.0.1", quorum, expected, times, seals, sharding)


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
        other = difference(state.get("recipe"), self._group.replica.protocol)
        for name, value in {"version": VERSION, "worker_number": self.worker}.items():
            if other is None and state.get(name) != value:
                other = f"{name} {state.get(name)!r}; here it is {value!r}"
        if other is not None:
            raise ValueError(
                f"The checkpoint has {other}. Load the file of this worker, saved with the same algorithm, model "
                "(names and shapes of its parameters) and seed."
            )
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
