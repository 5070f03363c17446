"""The vote behind a sharded model: after the backward pass, each shard with those of the same number elsewhere."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from gradvote.engines.common.flat_buffer import FlatBuffer, Outbox, flat_dtype, target_of
from gradvote.engines.common.handles import VOTES_BY_ITSELF, Handle, refuse_call
from gradvote.engines.common.releases import account_of
from gradvote.engines.common.scaling import all_finite
from gradvote.engines.common.training import Training, add
from gradvote.engines.distributed import pipeline
from gradvote.engines.distributed.chunking import Chunking
from gradvote.engines.distributed.comparison import Comparison
from gradvote.engines.distributed.failures import ExchangeError, Watch
from gradvote.engines.distributed.part_round import PartRound
from gradvote.engines.distributed.pipeline import Traffic
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.slices import squares_of, update_of
from gradvote.engines.distributed.stats import ExchangeStats
from gradvote.engines.fsdp.checkpoint import Checkpoints
from gradvote.engines.fsdp.replica import Said, ShardRanks
from gradvote.layout import Layout
from gradvote.privacy import Account


class FSDPVote(Handle):
    """What `attach` returns: counts and checkpoints of the exchange behind a sharded model. Use it between two steps.

    `stats()` and `all_stats()` are of this rank's shard: its coordinates, and the bytes between replicas.
    """

    def __init__(
        self,
        training: Training,
        session: Session,
        watch: Watch,
        shards: ShardRanks,
        checkpoints: Checkpoints,
        comparison: Comparison,
    ) -> None:
        self._training, self._session, self._watch, self._shards = training, session, watch, shards
        self._checkpoints, self._comparison = checkpoints, comparison
        self._chunking = Chunking(
            session.protocol.layout, session.transport, None, pipeline.is_wide(session.protocol.algorithm)
        )
        self._buffer = FlatBuffer(flat_dtype(training.params), session.transport.home)
        self._all = range(len(training.params))
        self._pass = -1

    @property
    def step(self) -> int:
        """The number of the next vote: one more after each synchronising backward pass, also where all skip it."""
        refuse_call(VOTES_BY_ITSELF)
        return self._session.step

    @property
    def account(self) -> Account | None:
        """What this replica's ballots have cost so far, under `privacy`."""
        return account_of(self._session.releases)

    def stats(self) -> ExchangeStats:
        """What this rank has counted."""
        return self._session.stats()

    def all_stats(self) -> list[ExchangeStats]:
        """What the ranks of this shard have counted, replica by replica; all of them must ask."""
        return self._session.all_stats()

    def state_dict(self) -> dict[str, Any]:
        """The memories of this replica as DTensors, sharded as the parameters are; all ranks must ask.

        Made for `torch.distributed.checkpoint`, which writes and reads them for any number of shards.
        """
        return self._checkpoints.save()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue, bit for bit, where a `state_dict` was taken with the same number of shards.

        With another number, memories move with their coordinates; what was kept for each block (the rate at which a
        memory was written) moves exactly where all blocks had the same, and is warned of where they had not.

        Raises:
            ValueError: it was saved for something else; nothing has been changed.
        """
        self._checkpoints.load(state)

    def _told(self) -> tuple[str, object]:
        where, algorithm = self._session.told()
        return where.replace("rank", "replica", 1), algorithm

    def _before(self, reduced: Tensor) -> None:
        """FSDP is about to write gradients of a module: called once for each, with what it has reduce-scattered."""
        now = torch._C._current_graph_task_id()
        if now == self._pass:
            return
        self._pass = now
        for i in self._all:
            self._training.directions.before(i)
        _after_backward(self._vote)

    def _after(self, i: int) -> None:
        """FSDP has written the gradient of parameter i."""
        self._training.directions.after(i)

    def _vote(self) -> None:
        step = self._session.step
        try:
            started = time.perf_counter()
            self._round(self._chunking.layouts())
            self._chunking.took(time.perf_counter() - started)
        except Exception as error:
            told = error if isinstance(error, ExchangeError) else self._watch.failed(error, step)
            self._shards.watch.failed(told, step)
            raise told from error

    def _round(self, layouts: list[Layout]) -> None:
        user, session = self._training, self._session
        user.trained.check()
        session.begin()
        self._comparison.look(session.step, session.came_from())
        user.directions.untouched(self._all)
        used, aside = user.directions.take(self._all)
        gradients = {i: p.grad if i in used else None for i, p in enumerate(user.params)}
        scale, lr = user.scaling.scale(), user.optimizers.rates()
        overflow = user.scaling.active and not all_finite(g for g in gradients.values() if g is not None)
        seen = session.seen(self._buffer.gather, gradients, user.params)
        keys = [(k, len(layouts)) for k in range(len(layouts))]
        keep = user.scaling.active  # whether the step is skipped is known when it has been made
        rounds = [session.round_of(key, layout, lr, keep) for key, layout in zip(keys, layouts, strict=True)]
        shrink = 1.0
        if user.max_norm is not None:
            sums = squares_of(self._buffer, layouts, seen, scale)
            shrink = self._shards.factor(sums, user.max_norm, session.step)
        update = update_of(self._buffer, seen, scale, shrink)
        targets = {i: target_of(user.params[i], g) for i, g in gradients.items()}
        outbox = Outbox(self._buffer, targets, scale)
        traffic = pipeline.run(session.transport, rounds, update, lambda k: rounds[k].read(outbox.write))
        outbox.finish()
        add(aside, targets)
        own = frozenset[int](aside).union(*(round_.decided for round_ in rounds))
        said = self._shards.agree(len(targets), own, overflow, session.step)
        self._give(targets, said, scale, dict(zip(keys, rounds, strict=True)), traffic)

    def _give(
        self,
        targets: Mapping[int, Tensor],
        said: Said,
        scale: float,
        rounds: Mapping[Any, PartRound],
        traffic: Sequence[Traffic],
    ) -> None:
        user, session = self._training, self._session
        skipped = user.scaling.active and session.transport.most(said.overflow)
        user.give(targets, said.decided, scale, skipped)
        if skipped:
            session.skip(traffic)
        else:
            session.commit(rounds, traffic)


def hook(model: torch.nn.Module, wholes: Sequence[Tensor], vote: FSDPVote) -> None:
    """Have FSDP call the vote: before it writes gradients, and after each one."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_all_reduce_hook(vote._before)
    for i, p in enumerate(wholes):
        p.register_post_accumulate_grad_hook(lambda _, i=i: vote._after(i))


def _after_backward(call: Callable[[], None]) -> None:
    """Call it at the end of the backward pass, behind what FSDP does there, which may reduce its root only then."""
    queue = torch.autograd.Variable._execution_engine.queue_callback
    queue(lambda: queue(call))
