"""DistributedDataParallel with votes instead of averages, by its communication hook: one line in a user's script.

A collective must not be started from another's callback (gloo then mixes up ranks), so one thread with a process
group of its own takes the buckets in DDP's order. A bucket's exchange overlaps with the backward pass of the layers
before it; the work of two buckets does not overlap.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.fsdp import FSDPModule
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.distributed.exchange import check_separable, named
from gradvote.engines.distributed.failures import Watch, private_group
from gradvote.engines.distributed.gradients import flat_dtype
from gradvote.engines.distributed.placement import Placement
from gradvote.engines.distributed.rates import Rates
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.stats import Stats
from gradvote.engines.distributed.transport import Transport
from gradvote.engines.hook_thread import Bucket, HookThread
from gradvote.faults import Faulty


def attach(
    ddp: DistributedDataParallel,
    algorithm: Algorithm,
    *,
    optimizer: Optimizer | None = None,
    scaler: GradScaler | None = None,
    placement: Placement = "sharded",
    group: dist.ProcessGroup | None = None,
    seed: int = 0,
    secret: bytes | None = None,
    timeout: float = 300.0,
    faults: Sequence[Faulty] = (),
) -> "Vote":
    """Let the workers of a DDP model vote: after `backward()` every gradient is the direction that all agreed on.

        vote = gradvote.ddp.attach(DistributedDataParallel(model), gradvote.algorithms.signum(), optimizer=opt)

    All ranks attach with the same arguments, after `DistributedDataParallel` and before the first backward pass.
    `optimizer` gives the learning rates by which error memories are rescaled. `scaler`, the `torch.amp.GradScaler` of
    the loop, keeps memories in true gradient units: blocks with an overflow abstain, and where most ranks overflowed
    all of them skip the step. `secret` keys this rank's private draws; None derives them from the seed, which makes
    runs reproducible and noise no protection. `timeout` (seconds) is how long a rank waits for the others. `group`
    is needed where DDP runs on some of the ranks only: a group of the same ranks that nothing else uses. Buffers
    stay DDP's: with BatchNorm give it `broadcast_buffers=False` and see `average_statistics`.

    Raises:
        ValueError: not a DDP model, a rule that needs whole gradients, or ranks that differ in what they were given.
    """
    _check_is_ddp(ddp)
    check_separable(algorithm)
    _warn_of_buffers(ddp)
    ignored = set(ddp.parameters_to_ignore)
    names, params = named((n, p) for n, p in ddp.module.named_parameters() if n not in ignored)
    rates = Rates(params, names, optimizer)
    own_group = _reserved(ddp, group, timeout)
    session = Session(names, params, algorithm, placement, Transport(own_group), seed, secret, faults)
    thread = HookThread(session, Watch(own_group), flat_dtype(params), scaler)
    vote = Vote(params, session, rates, thread)
    ddp.register_comm_hook(vote, _hook)
    thread.start()
    return vote


class Vote:
    """What `attach` returns: counts and checkpoints of the exchange behind a DDP model. Use it between two steps."""

    def __init__(self, params: Sequence[Tensor], session: Session, rates: Rates, thread: HookThread) -> None:
        self._session, self._rates, self._thread = session, rates, thread
        self._numbers = {id(p): i for i, p in enumerate(params)}
        self._used: set[int] = set()
        for p in params:
            p.register_post_accumulate_grad_hook(lambda p: self._used.add(self._numbers[id(p)]))

    def stats(self) -> Stats:
        """What this rank has counted."""
        return self._session.stats()

    def all_stats(self) -> list[Stats]:
        """What each rank has counted; all ranks must ask."""
        return self._session.all_stats()

    def state_dict(self) -> dict[str, Any]:
        """This rank's memories and momenta by parameter, its share of the server's, and the step."""
        return self._session.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue, bit for bit, where this rank's `state_dict` was taken.

        Raises:
            ValueError: it was saved for something else; nothing has been changed.
        """
        self._session.load_state_dict(state)

    def _take(self, bucket: dist.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]  # not in its __all__
        numbers = [self._numbers[id(p)] for p in bucket.parameters()]
        gradients = dict(zip(numbers, bucket.gradients(), strict=True))
        used = frozenset(self._used.intersection(numbers))
        self._used.difference_update(numbers)
        return self._thread.put(Bucket(gradients, used, bucket.buffer(), self._rates(), bucket.is_last()))


def _hook(vote: Vote, bucket: dist.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]  # not in its __all__
    return vote._take(bucket)


def _check_is_ddp(model: nn.Module) -> None:
    if isinstance(model, FSDPModule):
        raise ValueError(
            "FSDP2 models are not supported: each rank keeps only a shard of a gradient after its reduce-scatter, so "
            "no worker has the whole update that its error memory needs. Use DistributedDataParallel."
        )
    if not isinstance(model, DistributedDataParallel):
        raise ValueError(
            f"attach takes a torch DistributedDataParallel model; got {type(model).__name__}. Wrap the model first, or "
            "use gradvote.distributed.Exchange in a loop of your own."
        )


def _reserved(ddp: DistributedDataParallel, group: dist.ProcessGroup | None, timeout: float) -> dist.ProcessGroup:
    own_group = group or private_group(ddp.process_group, timeout)
    if own_group is None:
        raise ValueError(
            "This DDP model runs on some of the ranks only. Give attach a group of these ranks that nothing else uses: "
            "group=torch.distributed.new_group(ranks), called on all ranks."
        )
    if dist.get_process_group_ranks(own_group) != dist.get_process_group_ranks(ddp.process_group):
        raise ValueError("The group given to attach must have the same ranks, in the same order, as DDP's own.")
    return own_group


def _warn_of_buffers(ddp: DistributedDataParallel) -> None:
    tracked = any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in ddp.modules())
    if tracked and ddp.broadcast_buffers:
        warnings.warn(
            "The model has BatchNorm and DDP overwrites every rank's running statistics with those of rank 0, which "
            "are not representative where data differ between ranks. Use DistributedDataParallel(..., "
            "broadcast_buffers=False) and gradvote.ddp.average_statistics(model) before evaluating or saving.",
            stacklevel=3,
        )
