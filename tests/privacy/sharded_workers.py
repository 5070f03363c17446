"""What the spawned ranks of the tests of privacy run on sharded models: two replicas of two shards."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.optim import SGD

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.local_steps import attach as attach_steps
from gradvote.privacy import BudgetSpent, Gaussian
from tests.engines.failing_workers import text_of
from tests.engines.fsdp_local_workers import Prepared, gradients
from tests.engines.fsdp_nets import Mesh, full

NORM = 2.0
FAINT = Gaussian(1e-6, NORM)
"""So little noise that the rest can be seen."""


def sharded(mesh: Mesh) -> nn.Module:
    model = Prepared()
    fully_shard(model, mesh=mesh.shard)
    return model


def attach(mesh: Mesh, model: nn.Module, privacy: Any, algorithm: Algorithm | None = None, **options: Any) -> Any:
    return gradvote.fsdp.attach(model, algorithm or algorithms.sgd(), group=mesh.replicas, privacy=privacy, **options)


def backward(mesh: Mesh, model: nn.Module, step: int, nan: bool = False) -> list[Tensor]:
    """The gradients before the vote; those of a step are the same on all shards of a replica."""
    own = gradients(mesh.replica, step)
    if nan:
        own[0][0, 0] = torch.nan
    model.zero_grad()
    model(own).backward()
    return own


def directions(model: nn.Module) -> Tensor:
    return torch.cat([full(p.grad).flatten() for p in model.parameters() if p.grad is not None])


def bounded(step: int, nan: bool) -> Tensor:
    """The mean over replicas of their gradients, NaN as zero, each with a norm of at most `NORM`."""
    rows = [torch.cat([g.flatten() for g in gradients(replica, step)]) for replica in range(2)]
    if nan:
        for row in rows:
            row[0] = 0
    return torch.stack([row * min(1.0, NORM / float(row.norm())) for row in rows]).mean(0)


def released(mesh: Mesh, folder: str) -> dict[str, Any]:
    """Bounded as one, counted on all shards, saved and resumed; the first shard has the ledger."""
    ledger = Path(folder) / f"ledger-{dist.get_rank()}"
    privacy = Gaussian(1e-6, NORM, ledger=ledger)
    model = sharded(mesh)
    vote = attach(mesh, model, privacy)
    pairs = []
    for step in range(2):
        backward(mesh, model, step, nan=step == 1)
        pairs.append((directions(model), bounded(step, nan=step == 1)))
    where = f"{folder}/saved-{mesh.replica}"
    group = mesh.shard.get_group()
    dcp.save({"vote": vote.state_dict()}, checkpoint_id=where, process_group=group)
    backward(mesh, model, 2)
    counted = vote.account.releases
    plain = attach(mesh, sharded(mesh), None)
    again = attach(mesh, sharded(mesh), FAINT)
    found = {"vote": again.state_dict()}
    dcp.load(found, checkpoint_id=where, process_group=group)
    again.load_state_dict(found["vote"])
    loaded = again.account.releases
    without = text_of(lambda: plain.load_state_dict(found["vote"]))
    into_plain = {"vote": plain.state_dict()}  # has no place for an account, so that one is not read
    dcp.load(into_plain, checkpoint_id=where, process_group=group)
    unread = text_of(lambda: plain.load_state_dict(into_plain["vote"]))
    afterwards = text_of(lambda: again.load_state_dict(plain.state_dict()))
    began = attach(mesh, sharded(mesh), privacy).account.releases  # without a checkpoint: the ledger is known to all
    return {
        "pairs": pairs, "counted": counted, "loaded": loaded, "began": began,
        "refused": [without, unread, afterwards],
        "ledger": ledger.exists(), "dimension": vote.account.dimension,
    }  # fmt: skip


def noise(mesh: Mesh) -> Tensor:
    """Of gradients of zero: that of all shards, and of both replicas, by their mean."""
    model = sharded(mesh)
    attach(mesh, model, Gaussian(3.0, NORM))
    model([torch.zeros_like(g) for g in gradients(0, 0)]).backward()
    return directions(model)


def spent(mesh: Mesh) -> dict[str, Any]:
    model = sharded(mesh)
    vote = attach(mesh, model, Gaussian(5.0, NORM, max_epsilon=2.0), algorithms.signsgd())
    for step in range(allowed := vote.account.left):
        backward(mesh, model, step)
    error: Exception | None = None
    try:
        backward(mesh, model, 99)
    except Exception as raised:
        error = raised
    return {"allowed": allowed, "spent": isinstance(error, BudgetSpent), "epsilon": vote.account.epsilon()}


def local(mesh: Mesh) -> tuple[Tensor, Tensor, int]:
    """A round of two local steps: the way of the whole replica is bounded."""
    model = sharded(mesh)
    inner = SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    before = torch.cat([full(p).flatten() for p in model.parameters() if p.requires_grad])
    steps = attach_steps(
        model, inner, algorithms.sgd(), every=2, outer=lambda params: SGD(params, lr=1.0), engine="fsdp",
        group=mesh.replicas, privacy=FAINT,
    )  # fmt: skip
    for step in range(2):
        backward(mesh, model, step)
        inner.step()
        steps.step()
    after = torch.cat([full(p).flatten() for p in model.parameters() if p.requires_grad])
    ways = [torch.cat([g.flatten() for g in gradients(r, 0)]) for r in range(2)]
    ways = [way + torch.cat([g.flatten() for g in gradients(r, 1)]) for r, way in enumerate(ways)]
    mean = torch.stack([way * min(1.0, NORM / float(way.norm())) for way in ways]).mean(0)
    return before - after, mean, steps.vote.account.releases


def refusals(mesh: Mesh) -> dict[str, str]:
    def of(privacy: Any, **more: Any) -> str:
        return text_of(lambda: attach(mesh, sharded(mesh), privacy, **more))

    last = dist.get_rank() == 3
    return {
        "unit": of(Gaussian(1.0, 1.0, unit="example")),
        "bound": of(FAINT, max_norm=1.0),
        "one shard alone": of(FAINT if last else None),
        "one shard's own noise": of(Gaussian(2.0, NORM) if last else FAINT),
        "none of it": of(1.0),
    }


def everything(folder: str) -> None:
    os.environ.pop("GRADVOTE_SERVER_HALF", None)
    mesh = Mesh(2)
    found = {
        "released": released(mesh, folder),
        "noise": noise(mesh),
        "spent": spent(mesh),
        "local": local(mesh),
        "refusals": refusals(mesh),
    }
    torch.save(found, f"{folder}/{dist.get_rank()}.pt")
