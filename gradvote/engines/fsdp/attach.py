"""`gradvote.fsdp.attach`: votes between the replicas of a model that each of them shards."""

from collections.abc import Sequence
from functools import partial

import torch.distributed as dist
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common import owners
from gradvote.engines.common.arguments import check_algorithm, check_optimizers
from gradvote.engines.common.parameter_check import EVERY
from gradvote.engines.common.parameters import check_modules
from gradvote.engines.common.placement import Placement
from gradvote.engines.common.training import Training
from gradvote.engines.distributed.alike import check_terms, make_alike, together
from gradvote.engines.distributed.comparison import Comparison
from gradvote.engines.distributed.failures import Watch
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.transport import Transport
from gradvote.engines.fsdp.checkpoint import Checkpoints
from gradvote.engines.fsdp.groups import check_rule, check_same_replica, group_of, on_all_ranks
from gradvote.engines.fsdp.local import (
    check_group,
    check_not_empty,
    local_parameter,
    parameters_of,
    shifts_of,
)
from gradvote.engines.fsdp.privacy import sharded_releases_of, without_ledger
from gradvote.engines.fsdp.replica import ShardRanks
from gradvote.engines.fsdp.vote import FSDPVote, hook
from gradvote.faults import Faulty
from gradvote.privacy import Gaussian
from gradvote.rounding import StateDtype, with_state_dtype

WHERE = "attach(model, algorithm, group=replicas)"
AGAIN = "shard the model and attach anew, on all ranks"
ADVICE = (
    "Accumulate under model.set_requires_gradient_sync(False), so that only the last backward pass of a step "
    "synchronises; and call optimizer.zero_grad() before a new step."
)
STATISTICS = (
    "each rank keeps running statistics of its own data, so that they differ between ranks. Call "
    "gradvote.distributed.average_statistics(model) before evaluating or saving."
)


def attach(
    model: nn.Module,
    algorithm: Algorithm,
    *,
    group: dist.ProcessGroup | DeviceMesh,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
    placement: Placement = "sharded",
    init_sync: bool = True,
    seed: int = 0,
    secret: bytes | None = None,
    state_dtype: StateDtype = None,
    faults: Sequence[Faulty] = (),
    check_parameters_every: int | None = EVERY,
    privacy: Gaussian | None = None,
) -> FSDPVote:
    """Let replicas vote, each of which is a model that FSDP2 shards over its own ranks.

        mesh = init_device_mesh("cuda", (replicas, shards), mesh_dim_names=("replicate", "shard"))
        fully_shard(model, mesh=mesh["shard"])
        vote = gradvote.fsdp.attach(model, algorithms.signum(), group=mesh["replicate"], optimizer=optimizer)

    Within a replica FSDP averages gradients as ever; each replica is one worker, and each of its ranks votes on its own
    shard, with memories of that size, after the backward pass. Afterwards every `.grad` is the direction that the
    replicas agreed on. `group` holds the ranks that have the same shard, one of each replica; nothing else uses it
    during a backward pass, and its timeout is its own.

    All ranks attach with the same arguments after `fully_shard`, before the first backward pass. With `init_sync` the
    replicas begin with the values of the first one. `optimizer`, `scaler`, `placement`, `secret`, `state_dtype` and
    `faults` are as for `gradvote.ddp.attach`; `max_norm` bounds the norm of the replica's whole gradient before the
    vote. A parameter on which nobody voted, in any shard, has no gradient afterwards. Every `check_parameters_every`
    steps, and more often at the start, the ranks that have the same shard compare it by digests (None: never).

    `privacy` bounds and hides the replica's whole gradient before the vote: its shards agree on the norm, and each adds
    noise of its own to what it has of it. The replica is the client, so all that its ranks train on is hidden together;
    within a replica gradients travel as they are. The first shard's rank keeps the ledger.

    Blocks are cut from the shard: their borders, and with them scales, random draws and what one block's abstention
    silences, depend on the number of shards.

    Raises:
        TypeError: something else than expected was given.
        ValueError: the model is not sharded over one dimension as a whole, `group` is not the one across replicas, a
            rule needs whole vectors, or ranks differ in what they were given.
    """
    wholes, known, local = parameters_of(model, WHERE)
    own_group = group_of(group)
    shards, transport, watch = ShardRanks(wholes[0].device_mesh.get_group()), Transport(own_group), Watch(own_group)
    numels = shards.gather([p.numel() for p in local.tensors])
    with together(shards.transport, shards.watch), together(transport, watch):
        check_group(shards.watch.ranks, watch.ranks)
        check_not_empty(local)
        check_algorithm(algorithm, WHERE)
        algorithm = with_state_dtype(algorithm, state_dtype)
        check_rule(algorithm)
        check_modules(model)
        _check_unhooked(model)
        optimizers = check_optimizers(optimizer, WHERE)
        here, inside = [local_parameter(p) for p in wholes], model.modules()
        training = Training(known, algorithm, optimizers, scaler, max_norm, AGAIN, inside, ADVICE, local=here)
        shifts = partial(shifts_of, numels=numels, shard=shards.shard)
        comparison = Comparison(transport, local, check_parameters_every, watch)
        session = Session(local, algorithm, placement, transport, seed, secret, faults, shifts)
        size = int(numels.sum())
        session.releases = own_releases = sharded_releases_of(
            privacy, size, shards, algorithm, secret, scaler, max_norm
        )
    check_same_replica(shards, transport)
    terms: dict[str, object] = {"check_parameters_every": check_parameters_every, "init_sync": init_sync}
    terms |= training.terms(check_parameters_every is not None)
    own = {"max_norm": max_norm, "privacy": privacy and without_ledger(privacy)}
    told = {"algorithm": algorithm, "seed": seed, "placement": placement, **own, **terms}
    with on_all_ranks(shards, transport) as refused:
        refused(lambda: session.check_alike(local, terms))
        refused(lambda: check_terms(shards.transport, told, "The ranks of one replica"))
    if own_releases is not None:
        own_releases.meet()
    if init_sync:
        make_alike(transport, local, owners.buffers_of(model.modules()))
    owners.warn_of_statistics(model.modules(), STATISTICS, stacklevel=2)
    shards.know(sum(len(g.blocks) for g in session.protocol.layout.groups))
    checkpoints = Checkpoints(session, dict(zip(local.names, wholes, strict=True)))
    vote = FSDPVote(training, session, watch, shards, checkpoints, comparison)
    hook(model, wholes, vote)
    return vote


def _check_unhooked(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, FSDPModule) and _hooked(module):
            raise ValueError(
                f"This model has an all-reduce hook already (on its {type(module).__name__}), and FSDP takes one: an "
                "earlier attach, or set_all_reduce_hook of torchft or of a trainer. Leave the other one out, and "
                "attach once to each model."
            )


def _hooked(module: FSDPModule) -> bool:
    """Torch has no public way to ask; where its names change, the other hook is replaced."""
    state = module._get_fsdp_state()
    groups = getattr(state, "_fsdp_param_groups", None) or [getattr(state, "_fsdp_param_group", None)]
    return any(getattr(group, "_all_reduce_hook", None) is not None for group in groups)
