"""Sharded replicas saved, resumed by as many shards and by others."""

from functools import partial
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

from tests.engines.failing_workers import text_of
from tests.engines.fsdp_nets import Mesh, attach, blocks_alike, optimizer_of, sharded, train, whole
from tests.engines.habit_workers import with_warnings


def started(mesh: Mesh, steps: range, folder: str = "") -> tuple[Any, Any, Any]:
    net = sharded(mesh)
    optimizer = optimizer_of(net)
    vote = attach(mesh, net, optimizer, blocks_alike("dist-ef-sgdm"))
    if folder:
        load(mesh, net, vote, folder)
    train(mesh, net, optimizer, steps)
    return net, vote, optimizer


def save(mesh: Mesh, net: nn.Module, vote: Any, folder: str) -> None:
    dcp.save({"model": net.state_dict(), "vote": vote}, checkpoint_id=folder, process_group=ranks_of(mesh))


def load(mesh: Mesh, net: nn.Module, vote: Any, folder: str) -> None:
    state = {"model": net.state_dict(), "vote": vote}
    dcp.load(state, checkpoint_id=folder, process_group=ranks_of(mesh))


GROUPS: dict[int, Any] = {}


def ranks_of(mesh: Mesh) -> Any:
    return GROUPS[mesh.both.size()]


def resumed(two: Mesh, three: Mesh, folder: str) -> dict[str, Any]:
    """After half of the steps: gone on with, resumed by two shards, and by three."""
    found: dict[str, Any] = {}
    if two.here:
        net, vote, optimizer = started(two, range(2))
        found["saved"] = memories(vote)
        save(two, net, vote, folder)
        train(two, net, optimizer, range(2, 4))
        again, _, _ = started(two, range(2, 4), folder=folder)
        found["two"] = whole(net), whole(again)
    dist.barrier()
    net, vote, optimizer = started(three, range(0), folder=folder)
    found["three"] = memories(vote), vote.step
    train(three, net, optimizer, range(2, 3))
    return found


def memories(vote: Any) -> dict[str, Tensor]:
    """All memories of this replica, and of the server, whole."""
    state = vote.state_dict()
    ((_, worker),) = state["worker"].items()
    sides = {"worker": worker, "server": state["server"]}
    return {
        f"{side}, {name}, {leaf}": own.full_tensor()
        for side, saved in sides.items()
        for name, rows in saved.items()
        for leaf, own in rows.items()
    }


def mixed(mesh: Mesh) -> list[str]:
    """A checkpoint whose blocks cannot be mapped: rates differ within a block."""
    _, vote, _ = started(mesh, range(1))
    state = vote.state_dict()
    own = state["worker"][str(mesh.replica)]["first.weight"]
    (rates,) = (leaf for name, leaf in own.items() if name.endswith("lr"))
    rates.to_local()[0, :2] = 0.5
    _, said = with_warnings(lambda: vote.load_state_dict(state))
    others = {**state, "num_replicas": 3}, {**state, "worker": {}}
    return [*said, *(text_of(partial(vote.load_state_dict, other)) for other in others)]
