"""`gradvote.torchft.attach`: torchft's manager decides who is there, our ballots decide where to go."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common import owners
from gradvote.engines.common.arguments import check_weight, check_whole, in_words
from gradvote.engines.common.errors import LinkBroken
from gradvote.engines.common.handles import Handle
from gradvote.engines.common.parameter_check import EVERY
from gradvote.engines.common.parameters import check_given
from gradvote.engines.common.recipe import check_saved
from gradvote.engines.common.releases import account_of
from gradvote.engines.common.replica import WHERE, Replica
from gradvote.engines.common.signals import signals_wait
from gradvote.engines.common.slot import Slot
from gradvote.engines.common.torch_modes import ordinary_tensors, uncompiled
from gradvote.engines.torchft.all_to_all import AllToAll
from gradvote.engines.torchft.commits import Commits, check_group
from gradvote.engines.torchft.counts import ReplicaTally, TorchftStats, invalid_blocks
from gradvote.engines.torchft.greetings import Refused
from gradvote.engines.torchft.memory import Account, Pending, account_from
from gradvote.engines.torchft.quorum_round import Decision, QuorumRound
from gradvote.errors import MissingExtra
from gradvote.privacy import Account as PrivacyAccount
from gradvote.privacy import Gaussian
from gradvote.rounding import StateDtype, with_state_dtype

if TYPE_CHECKING:
    from torchft.manager import Manager

VERSION = 2
KEY = "gradvote"
NUMBERS = ("GRADVOTE_WORKER", "REPLICA_GROUP_ID")


def attach(
    manager: "Manager",
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    algorithm: Algorithm,
    *,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
    worker: int | None = None,
    seed: int = 0,
    secret: bytes | None = None,
    state_dtype: StateDtype = None,
    check_parameters_every: int | None = EVERY,
    privacy: Gaussian | None = None,
) -> "TorchftVote":
    """Let a vote take the place of `manager.allreduce` in a script for torchft 0.2.0 and its lighthouse.

        manager = torchft.Manager(pg=ProcessGroupGloo(), min_replica_size=2, load_state_dict=None, state_dict=None, ...)
        vote = gradvote.torchft.attach(manager, model, optimizer, gradvote.algorithms.dropsignsgd(), worker=2)
        while manager.current_step() < 1000:
            optimizer.zero_grad()
            manager.start_quorum()
            loss(model, batch(vote.worker, manager.current_step())).backward()
            vote.step()  # instead of manager.allreduce, should_commit and optimizer.step

    Every replica holds the whole server state (placement `replicated`). Model, optimizer and server state travel to a
    replica that heals, under a key of their own (`Manager.register_state_dict_fn`); what else shall travel is the
    script's to register. `state_dtype`, as torch.bfloat16, is that of momenta and memories. `worker` is this replica
    group's number, the same over restarts; None takes GRADVOTE_WORKER or torchft's REPLICA_GROUP_ID. `secret` keys this
    worker's private draws; None derives them from the seed. `scaler` is the `torch.amp.GradScaler` of the loop:
    `step()` takes the place of its `step` and `update`. `max_norm` bounds the norm of this worker's own gradient before
    the vote. Within `check_parameters_every` steps all parameters have been compared; who holds others than most ends
    with `Diverged` (None: never). `privacy` bounds and hides this worker's whole gradient before the vote, and keeps an
    `account` with a ledger; a step that is tried again sends the same release again, not that of its next gradients.
    One process for each replica group. Give the plain model and optimizer: torchft's own `DistributedDataParallel` and
    `Optimizer` would commit each step a second time.

    Raises:
        TypeError: something else than expected was given.
        ValueError: nothing to train, a rule that needs whole gradients, a parameter that the optimizer does not have,
            a wrapped model or optimizer, no number, a process group that is not gloo's, a replica group of several
            processes, or a manager that has a vote already.
        MissingExtra: torchft is not installed.
    """
    try:
        from torchft.manager import Manager  # noqa: PLC0415  # an extra, imported only when it is used
    except ImportError as error:
        raise MissingExtra("torchft", "torchft") from error
    check_given(model, optimizer, algorithm, WHERE)
    owners.warn_of_statistics(model.modules(), owners.APART, stacklevel=2)
    algorithm = with_state_dtype(algorithm, state_dtype)
    number = _number(worker)
    check_weight(algorithm, number)
    if not isinstance(manager, Manager):
        raise TypeError(f"attach(manager, ...) takes a torchft.Manager first; got {in_words(manager)}.")
    check_group(manager)
    replica = Replica(
        model,
        optimizer,
        algorithm,
        number,
        seed,
        secret,
        scaler=scaler,
        max_norm=max_norm,
        check_every=check_parameters_every,
        privacy=privacy,
    )
    replica.rehearse((1, 2, 3))
    return TorchftVote(manager, replica, AllToAll(manager))


class TorchftVote(Handle):
    """A worker's part in the votes under a torchft manager."""

    def __init__(self, manager: "Manager", replica: Replica, all_to_all: AllToAll) -> None:
        self._manager, self._replica, self._all_to_all = manager, replica, all_to_all
        self._account = Account(bytes.fromhex(replica.digest()))
        self._pending, self._counts = Pending(), ReplicaTally()
        self._next, self._fresh, self._loaded = Slot(), True, None  # type: Slot, bool, int | None
        try:
            manager.register_state_dict_fn(KEY, self._heal, self._shared)
        except AssertionError as error:
            raise ValueError(
                f"The manager has a state named '{KEY}' already: attach one vote to a manager, and only once."
            ) from error
        self._commits = Commits(manager)

    @property
    def worker(self) -> int:
        """This worker's number: it keeps it over restarts."""
        return self._replica.number

    @uncompiled
    @ordinary_tensors()
    def step(self) -> bool:
        """One vote on the gradients of now, after `manager.start_quorum()`; whether the step was taken.

        If not, all is as it was before, memories included, and the step is tried again with the next gradients: torchft
        gives a step up if one replica of its quorum fails in it. A replica that heals abstains, and takes the step of
        the others.

        Raises:
            Equivocation: a replica told others different things; nothing was applied.
            Diverged: this replica's model is another one than the others'; nothing was applied.
            ParametersDiffer: so it is, and no more than half are alike; nothing was applied.
            ValueError: it was attached or loaded otherwise than the others; nothing was applied.
            TimeoutError: torchft found no quorum in time.
            RuntimeError: the script asked for no new quorum, or a step was not the vote's; or what another replica sent
                to heal by lacks something.
        """
        self._commits.wait()
        self._commits.check()
        vote_round = self._round()
        try:
            decision = vote_round.run()
        except (Refused, LinkBroken) as error:
            return self._refuse(vote_round, error)
        except Exception as error:
            self._refuse(vote_round, error)
            raise
        with signals_wait():  # what a script saves on Ctrl-C has all of this step or nothing
            if not self._commits.commit():
                self._undo(vote_round, "torchft's should_commit said no: too few replicas, or a reported error")
                return False
            self._commit(decision)
        return True

    @property
    def account(self) -> PrivacyAccount | None:
        """What this worker's ballots have cost so far, under `privacy`."""
        return account_of(self._replica.releases)

    def stats(self) -> TorchftStats:
        """What this worker has seen since it was attached."""
        return self._counts.stats(self._manager.current_step(), (self._all_to_all.sent, self._all_to_all.received))

    def state_dict(self) -> dict[str, Any]:
        """This worker's memory, the server's, and what was counted; save it beside model, optimizer and manager.

        Raises:
            RuntimeError: a step failed half way.
        """
        about = {**self._about(), "worker_number": self.worker, "step": self._manager.current_step()}
        return {**about, **self._account.saved(), **self._replica.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; load model, optimizer and manager as well.

        Raises:
            ValueError: it is of another run or worker; nothing has been changed.
        """
        self._check({**self._about(), "worker_number": self.worker}, state)
        account = account_from(state)
        self._replica.load_state_dict(state)
        self._account, self._loaded = account, int(state["step"])
        self._pending.forget()
        self._commits.forget()

    def _told(self) -> tuple[str, object]:
        return f"worker {self.worker}, step {self._manager.current_step()}", self._replica.protocol.algorithm

    def _round(self) -> QuorumRound:
        manager = self._manager
        step, votes = int(manager.current_step()), bool(manager.is_participating())
        slot = self._next if self._next.step == step else Slot(step)
        return QuorumRound(self._replica, self._all_to_all, slot, votes, self._account.history, self._failure(step))

    def _failure(self, step: int) -> Exception | None:
        """What keeps this replica from voting; a checkpoint of the vote is of one step, unless it heals."""
        reported = self._manager.errored()
        if reported is not None:
            return Refused(f"Worker {self.worker} had reported an error to its manager: {reported.original_exception}")
        if self._loaded is None or self._loaded == step or not self._manager.is_participating():
            return None
        return ValueError(
            f"The vote's checkpoint is of step {self._loaded}, but the manager is at step {step}. Load the manager's "
            "state that was saved with it, too."
        )

    @signals_wait()
    def _refuse(self, vote_round: QuorumRound, error: Exception) -> bool:
        self._manager.report_error(error)
        self._all_to_all.cut()
        self._undo(vote_round, error)
        return self._commits.commit()

    def _undo(self, vote_round: QuorumRound, why: object) -> None:
        """Nothing of a step was applied, here; only its draws are spent."""
        if vote_round.sent is not None:
            self._pending.refused(*vote_round.sent)
            self._next = Slot(vote_round.slot.step, vote_round.slot.attempt + 1)
        self._counts.refuse(vote_round.slot.step, why)

    def _commit(self, decision: Decision) -> None:
        replica, number = self._replica, self.worker
        counted = number in decision.bodies
        if decision.ballot is not None:
            replica.keep(decision.ballot, counted)
        replica.apply(decision.slot, decision.bodies)
        self._account.add(decision.slot, decision.digests)
        self._pending.committed(decision.ballot if counted else None, decision.digests.get(number, b""))
        self._fresh, self._loaded = False, None
        self._counts.members = decision.members
        blocks = {n: invalid_blocks(body, replica.protocol.layout) for n, body in decision.bodies.items()}
        self._counts.commit(blocks, set(decision.members) - blocks.keys(), set(decision.voters) - blocks.keys())

    def _shared(self) -> dict[str, Any]:
        """What a replica that heals gets; torchft calls this while nothing is being applied."""
        self._replica.check_whole()
        return {**self._about(), **self._account.saved(), "state": self._replica.snapshot()}

    @signals_wait()
    def _heal(self, state: Mapping[str, Any]) -> None:
        """Become like another replica, as torchft asks."""
        self._check(self._about(), state)
        account = account_from(state)
        self._replica.restore(state["state"])
        if self._fresh:
            self._replica.forget()
            self._pending.forget()
        else:
            self._pending.settle(self._replica, account.counted.get(self.worker))
        self._account, self._loaded = account, None
        self._commits.forget()
        self._counts.healed += 1

    def _about(self) -> dict[str, Any]:
        return {"version": VERSION, "recipe": self._replica.protocol.recipe_text}

    def _check(self, own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        facts = {name: value for name, value in own.items() if name != "recipe"}
        check_saved(state, self._replica.protocol, facts, "A checkpoint is loaded by the worker that saved it.")


def _number(worker: int | None) -> int:
    """This worker's number, as given or of the environment.

    Raises:
        ValueError: there is none, or it is below 0.
    """
    text = next((os.environ[name] for name in NUMBERS if os.environ.get(name)), None)
    if worker is None and text is None:
        raise ValueError(
            "This replica group needs a number that it keeps over restarts: give attach worker=, or set "
            f"{' or '.join(NUMBERS)}."
        )
    if worker is None and not str(text).strip().isdecimal():
        raise ValueError(f"{' or '.join(NUMBERS)} is this replica group's number, from 0 on; got {text!r}.")
    number = int(text or 0) if worker is None else worker
    check_whole("worker", number, 0, "this replica group's number")
    return number
