"""DistributedDataParallel with votes instead of averages, by its communication hook: one line in a user's script.

A collective must not be started from another's callback (gloo then mixes up ranks), so one thread with a process
group of its own takes the buckets in DDP's order. A bucket's exchange overlaps with the backward pass of the layers
before it; the work of two buckets does not overlap.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.fsdp import FSDPModule
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common import owners
from gradvote.engines.common.arguments import check_algorithm, check_optimizers, check_rule, in_words
from gradvote.engines.common.directions import Directions
from gradvote.engines.common.flat_buffer import flat_dtype
from gradvote.engines.common.handles import VOTES_BY_ITSELF, Behind, Handle, refuse_call
from gradvote.engines.common.parameter_check import EVERY
from gradvote.engines.common.parameters import check_modules, parameters_of
from gradvote.engines.common.placement import Placement
from gradvote.engines.common.releases import account_of, check_client, releases_of
from gradvote.engines.common.training import Training
from gradvote.engines.distributed.alike import together
from gradvote.engines.distributed.bucket_views import BucketViews
from gradvote.engines.distributed.comparison import Comparison
from gradvote.engines.distributed.failures import Watch, check_group, private_group
from gradvote.engines.distributed.hook_thread import Bucket, HookThread
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.statistics import OWN_BUFFERS
from gradvote.engines.distributed.stats import ExchangeStats
from gradvote.engines.distributed.transport import Transport
from gradvote.engines.distributed.wrapped import Wrapped
from gradvote.faults import Faulty
from gradvote.privacy import Account, Gaussian
from gradvote.rounding import StateDtype, with_state_dtype

BUCKETS = ("bucket_bytes_cap", "find_unused_parameters", "static_graph", "mixed_precision")
"""Of these it depends which gradients travel together."""
WHERE = "attach(ddp, algorithm)"
AGAIN = "wrap the model in DistributedDataParallel and attach anew, on all ranks"
ADVICE = (
    "Accumulate under ddp.no_sync(), with the forward pass inside it as well, so that only the last backward pass of a "
    "step synchronises; and call optimizer.zero_grad() before a new step."
)
STATISTICS = (
    "DDP overwrites every rank's running statistics with those of rank 0, which are not representative where data "
    "differ between ranks. Use DistributedDataParallel(..., {option}=False) and gradvote.ddp.average_statistics(model) "
    "before evaluating or saving."
)


def attach(
    ddp: DistributedDataParallel,
    algorithm: Algorithm,
    *,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
    placement: Placement = "sharded",
    group: dist.ProcessGroup | None = None,
    seed: int = 0,
    secret: bytes | None = None,
    state_dtype: StateDtype = None,
    timeout: float = 300.0,
    faults: Sequence[Faulty] = (),
    check_parameters_every: int | None = EVERY,
    privacy: Gaussian | None = None,
) -> "DDPVote":
    """Let the workers of a DDP model vote: after `backward()` every gradient is the direction that all agreed on.

        vote = gradvote.ddp.attach(DistributedDataParallel(model), gradvote.algorithms.signum(), optimizer=opt)

    All ranks attach with the same arguments, after `DistributedDataParallel` and before the first backward pass.
    `optimizer`, one or several, gives the learning rates by which error memories are rescaled. `scaler`, the
    `torch.amp.GradScaler` of the loop, keeps memories in true gradient units: blocks with an overflow abstain, and
    where most ranks overflowed all of them skip the step. `max_norm` bounds the norm of this rank's own gradient before
    the vote, which then begins after the last bucket. `secret` keys this rank's private draws; None derives them from
    the seed, which makes runs reproducible and noise no protection. `state_dtype`, such as torch.bfloat16, is that of
    momenta and memories between steps: half the memory (docs/memory.md). `timeout` (seconds) is how long a rank waits
    for the others. `group` is needed where DDP runs on some of the ranks only: a group of the same ranks that nothing
    else uses. Buffers stay DDP's: with BatchNorm give it `forward_sync_buffers=False` (before torch 2.13
    `broadcast_buffers=False`) and see `average_statistics`.

    Every `check_parameters_every` steps, and more often at the start, the parameters of all ranks are compared by their
    digests; where they have parted, the backward pass of all raises the RuntimeError that says so (None: never).

    `privacy` bounds and hides this rank's whole gradient before the vote, which then begins after the last bucket, and
    keeps an `account`: of unit "client" only. Where the account allows no more, the backward pass raises.

    A parameter on which nobody voted has no gradient afterwards. A backward pass that meets a direction in `.grad` is a
    vote of its own, whose direction is added to it.

    Raises:
        TypeError: something else than expected was given.
        ValueError: a rule that needs whole vectors where they are cut into shards, sparse gradients, or ranks
            that differ in what they were given.
    """
    if not dist.is_initialized():
        _check_is_ddp(ddp)
    own_group = _reserved(ddp, group, timeout)
    transport, watch = Transport(own_group), Watch(own_group)
    with together(transport, watch):
        _check_is_ddp(ddp)
        _check_same_ranks(ddp, own_group)
        check_algorithm(algorithm, WHERE)
        algorithm = with_state_dtype(algorithm, state_dtype)
        check_rule(algorithm, placement)
        check_modules(ddp.module)
        optimizers = check_optimizers(optimizer, WHERE)
        ignored = set(ddp.parameters_to_ignore)
        parameters = parameters_of([(n, p) for n, p in ddp.module.named_parameters() if n not in ignored], WHERE)
        inside = ddp.module.modules()
        training = Training(parameters, algorithm, optimizers, scaler, max_norm, AGAIN, inside, ADVICE)
        comparison = Comparison(transport, parameters, check_parameters_every, watch)
        session = Session(parameters, algorithm, placement, transport, seed, secret, faults)
        check_client(privacy, "DDP")
        size = session.protocol.layout.size
        session.releases = releases_of(privacy, size, algorithm, secret, scaler, max_norm)
    own = {"check_parameters_every": check_parameters_every, **training.terms(check_parameters_every is not None)}
    session.check_alike(parameters, own | {f"{name} of DDP": repr(getattr(ddp, name, None)) for name in BUCKETS})
    _warn_of_buffers(ddp)
    waits = transport.any(max_norm is not None or privacy is not None)
    thread = HookThread(session, watch, flat_dtype(training.params), max_norm, comparison, waits)
    vote = DDPVote(training, session, thread, Wrapped(parameters))
    if ddp.gradient_as_bucket_view:
        _follow_new_buckets(ddp, training.directions)
    _register(ddp, vote)
    thread.start()
    return vote


class DDPVote(Handle):
    """What `attach` returns: counts and checkpoints of the exchange behind a DDP model. Use it between two steps."""

    def __init__(self, training: Training, session: Session, thread: HookThread, wrapped: Wrapped) -> None:
        self._training, self._session, self._thread = training, session, thread
        self._wrapped, self._views = wrapped, BucketViews()

    @property
    def step(self) -> int:
        """The number of the next vote: one more after each synchronising backward pass, also where all skip it."""
        refuse_call(VOTES_BY_ITSELF)
        return self._session.step

    @property
    def account(self) -> Account | None:
        """What this rank's ballots have cost so far, under `privacy`."""
        return account_of(self._session.releases)

    def stats(self) -> ExchangeStats:
        """What this rank has counted."""
        return self._session.stats()

    def all_stats(self) -> list[ExchangeStats]:
        """What each rank has counted; all ranks must ask."""
        return self._session.all_stats()

    def state_dict(self, views: bool = False) -> dict[str, Any]:
        """This rank's memories and momenta by parameter, its share of the server's, and the step.

        Tensors are copies. With `views`, to save large states at once, they are lists of views, which need no memory
        until the next step; `load_state_dict` takes both.
        """
        return self._session.state_dict(views)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue, bit for bit, where this rank's `state_dict` was taken.

        Raises:
            ValueError: it was saved for something else; nothing has been changed.
        """
        self._session.load_state_dict(state)

    def _told(self) -> tuple[str, object]:
        return self._session.told()

    def _take(self, bucket: dist.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]  # not in its __all__
        user = self._training
        user.trained.check()
        places = zip(self._wrapped.numbers(bucket), self._views.of(bucket), strict=True)
        gradients = {number: gradient for number, gradient in places if number is not None}
        used, aside = user.directions.take(gradients)
        scale = user.scaling.scale() if user.scaling.active else None
        if bucket.is_last():
            try:
                _after_ddp(lambda: self._finish(scale))
            except RuntimeError as error:  # torch's own words say nothing of the cause
                raise RuntimeError(
                    "A vote was asked for outside of a backward pass, as DDP's join() does for ranks that have no more "
                    "batches. Votes need all ranks: give each the same number of batches, and leave join() out."
                ) from error
        rates, buffer = user.optimizers.rates(), bucket.buffer()
        filled = torch.cuda.current_stream(buffer.device).record_event() if buffer.is_cuda else None
        return self._thread.put(Bucket(gradients, used, buffer, rates, bucket.is_last(), scale, aside, filled))

    def _finish(self, scale: float | None) -> None:
        """DDP has put the directions into the gradients."""
        user, thread = self._training, self._thread
        if thread.abstained:
            user.overflowed()
        found = {i: p.grad for i, p in enumerate(user.params) if p.grad is not None}
        user.give(found, found.keys() if thread.skipped else thread.decided, scale or 1.0, thread.skipped)


def _follow_new_buckets(ddp: DistributedDataParallel, directions: Directions) -> None:
    """Once, at the beginning of a forward pass, DDP moves gradients that are views to new buckets: as new tensors."""
    before: list[int] = []
    directions.views = True

    def ahead(*_: Any) -> None:
        before[:] = directions.marked()

    ddp.register_forward_pre_hook(ahead)
    ddp.module.register_forward_pre_hook(lambda *_: directions.mark_again(before))


def _after_ddp(call: Callable[[], None]) -> None:
    """Call it at the end of the backward pass, behind what DDP does there.

    DDP asks for its own call just after the hook of the last bucket, so one that asks for another one comes behind it.
    """
    queue = torch.autograd.Variable._execution_engine.queue_callback
    queue(lambda: queue(call))


def _register(ddp: DistributedDataParallel, vote: DDPVote) -> None:
    try:
        ddp.register_comm_hook(Behind(vote._take), _hook)
    except RuntimeError as error:  # torch's own words do not say that a trainer's setting may have done it
        raise ValueError(
            "This DDP model has a communication hook already, and torch allows one: an earlier attach, or a setting "
            "such as ddp_comm_hook. Leave the other hook out, and attach once to each DDP model."
        ) from error


def _hook(vote: Behind, bucket: dist.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]  # not in its __all__
    future: Future[Tensor] = vote.call(bucket)
    return future


def _check_is_ddp(model: Any) -> None:
    if isinstance(model, FSDPModule):
        raise ValueError(
            "FSDP2 models have no DDP hook: each rank keeps only a shard of a gradient after its reduce-scatter. Votes "
            "belong between replicas of a sharded model: shard over the ranks with fast links, and see "
            "gradvote.fsdp.attach; or use DistributedDataParallel."
        )
    if isinstance(getattr(model, "_forward_module", None), DistributedDataParallel):
        raise ValueError(
            f"{WHERE} takes the DistributedDataParallel model itself; got Lightning Fabric's wrapper of one. Give "
            "model._forward_module, and backward passes to fabric.backward."
        )
    inside = getattr(model, "_orig_mod", None)
    if isinstance(inside, DistributedDataParallel):
        raise ValueError(
            f"{WHERE} takes the DistributedDataParallel model itself; got a compiled one. Attach first, then compile: "
            "attach(ddp, ...); model = torch.compile(ddp)."
        )
    if isinstance(model, DistributedDataParallel):
        return
    if isinstance(model, nn.Module):
        raise ValueError(
            f"{WHERE} takes a torch DistributedDataParallel model; got {in_words(model)}. Wrap the model first, or "
            "use gradvote.distributed.Exchange in a loop of your own."
        )
    order = " The arguments are in another order than expected." if isinstance(model, Algorithm) else ""
    raise TypeError(f"{WHERE} takes a torch DistributedDataParallel model; got {in_words(model)}.{order}")


def _reserved(ddp: Any, group: dist.ProcessGroup | None, timeout: float) -> dist.ProcessGroup:
    check_group(group)
    own_group = group or private_group(getattr(ddp, "process_group", None), timeout)
    if own_group is None:
        raise ValueError(
            "This DDP model runs on some of the ranks only. Give attach a group of these ranks that nothing else uses: "
            "group=torch.distributed.new_group(ranks), called on all ranks."
        )
    return own_group


def _check_same_ranks(ddp: DistributedDataParallel, group: dist.ProcessGroup) -> None:
    if dist.get_process_group_ranks(group) != dist.get_process_group_ranks(ddp.process_group):
        raise ValueError("The group given to attach must have the same ranks, in the same order, as DDP's own.")


def _warn_of_buffers(ddp: DistributedDataParallel) -> None:
    (option,) = OWN_BUFFERS
    if getattr(ddp, option):
        owners.warn_of_statistics(ddp.modules(), STATISTICS.format(option=option), stacklevel=3)
