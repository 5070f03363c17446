"""Rounds of local steps between the replicas of a sharded model: each rank votes on how far its shard was led."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common.parameters import Parameters
from gradvote.engines.distributed.alike import check_terms, together
from gradvote.engines.distributed.exchange import ExchangeOfStarts
from gradvote.engines.distributed.failures import Watch
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.transport import Transport
from gradvote.engines.fsdp.checkpoint import Checkpoints
from gradvote.engines.fsdp.groups import check_rule, check_same_replica, group_of, move_apart, on_all_ranks
from gradvote.engines.fsdp.local import check_group, check_not_empty, shifts_of
from gradvote.engines.fsdp.privacy import ShardedReleases, sharded_releases_of, without_ledger
from gradvote.engines.fsdp.replica import ShardRanks
from gradvote.engines.fsdp.start import ShardedStart
from gradvote.privacy import Gaussian

OPTIONS = frozenset(
    {
        "placement", "init_sync", "seed", "secret", "state_dtype", "faults", "check_parameters_every", "max_norm",
        "privacy",
    }
)  # fmt: skip


class ShardedRounds(ExchangeOfStarts):
    """An exchange of this rank's shard with those of the same number.

    All shards of a replica apply a direction to a parameter for which any of them has one.
    """

    def __init__(
        self,
        start: ShardedStart,
        algorithm: Algorithm,
        outer: Optimizer,
        *,
        alike: Mapping[str, object],
        optimizer: Optimizer,
        group: dist.ProcessGroup | DeviceMesh,
        apart: bool = False,
        **options: Any,
    ) -> None:
        """`options` are those of `Exchange` that `OPTIONS` has; `apart`: a step may be taken beside FSDP's work.

        Raises:
            ValueError: another option, groups that do not fit, or ranks that were given different things.
        """
        own_group = group_of(group)
        trained = {name: p for name, p in start.named_parameters() if name in start.wholes}
        self._shards = ShardRanks(next(iter(start.wholes.values())).device_mesh.get_group())
        self._numels = self._shards.gather([p.numel() for p in trained.values()])
        replicas, watch = Transport(own_group), Watch(own_group)
        with together(self._shards.transport, self._shards.watch), together(replicas, watch):
            _check_options(options)
            check_group(self._shards.watch.ranks, watch.ranks)
            check_not_empty(Parameters([*trained], [*trained.values()], []))
            check_rule(algorithm)
        told = {"algorithm": algorithm, **alike, **{k: v for k, v in options.items() if k not in ("secret", "faults")}}
        if options.get("privacy") is not None:
            told["privacy"] = without_ledger(options["privacy"])
        begin = partial(super().__init__, start, algorithm, outer, alike=alike, optimizer=optimizer, group=own_group)
        with on_all_ranks(self._shards, replicas) as refused:
            refused(lambda: check_terms(self._shards.transport, told, "The ranks of one replica"))
            refused(lambda: begin(**options))
        check_same_replica(self._shards, self._session.transport)
        if apart:
            move_apart(self._shards.transport, self._session.transport)
        self._shards.know(sum(len(g.blocks) for g in self._session.protocol.layout.groups))
        if isinstance(self._session.releases, ShardedReleases):
            self._session.releases.meet()
        self._checkpoints = Checkpoints(self._session, {name: start.wholes[name] for name in self._session.names})

    def step(self) -> None:
        """As `Exchange.step`; the other shards of this replica learn of an error."""
        step = self._session.step
        try:
            super().step()
        except Exception as error:
            self._shards.watch.failed(error, step)
            raise

    def state_dict(self, views: bool = False) -> dict[str, Any]:
        """The memories of this replica as DTensors; see `FSDPVote.state_dict`."""
        return self._checkpoints.save()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `FSDPVote.load_state_dict`."""
        self._checkpoints.load(state)

    def _opened(self, *given: Any, **more: Any) -> Session:
        """Blocks are numbered so that no two shards have a number in common."""
        shifts = partial(shifts_of, numels=self._numels, shard=self._shards.shard)
        return super()._opened(*given, shifts=shifts, **more)

    def _accounted(self, privacy: Gaussian | None, *beside: Any) -> ShardedReleases | None:
        """One account for all shards, of which this one releases its part."""
        return sharded_releases_of(privacy, int(self._numels.sum()), self._shards, *beside)

    def _factor(self, sums: Sequence[Tensor], max_norm: float) -> float:
        return self._shards.factor(sums, max_norm, self._session.step)

    def _agreed(self, decided: frozenset[int]) -> frozenset[int]:
        return self._shards.agree(len(self.params), decided, False, self._session.step).decided


def _check_options(given: Mapping[str, Any]) -> None:
    for name in given.keys() - OPTIONS:
        raise ValueError(
            f"Local steps of a sharded model take no {name}=: the options are {', '.join(sorted(OPTIONS))}. Leave it "
            "out."
        )
