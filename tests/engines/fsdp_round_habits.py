"""What users do around local steps of sharded models."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_model_state_dict

from gradvote import algorithms
from gradvote.local_steps import attach, attach_fragments
from tests.engines.failing_workers import text_of
from tests.engines.fsdp_nets import Mesh, loss_of, new_net, optimizer_of, sharded, whole


def loaded(mesh: Mesh) -> dict[str, str]:
    """What is said of a model that is loaded alone after attaching: a shard does not tell that it was written to."""

    def in_place(net: Any, inner: Any) -> None:
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(2)

    def by_torch(net: Any, inner: Any) -> None:
        get_optimizer_state_dict(net, inner)  # which takes a step at rate 0
        set_model_state_dict(net, {name: value + 1 for name, value in net.state_dict().items()})

    def said(load: Callable[[Any, Any], None]) -> str:
        net = sharded(mesh)
        inner = optimizer_of(net)
        local = _attached(mesh, net, inner)
        load(net, inner)
        loss_of(net, mesh, 0).backward()
        return text_of(lambda: (inner.step(), local.step()))

    return {load.__name__: said(load) for load in (in_place, by_torch)}


def frozen_in_fragments(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """A frozen layer that the replicas begin with from other values: what they have, and what the first one had."""
    net = sharded(mesh)
    with torch.no_grad():
        for p in net.frozen.parameters():  # type: ignore[union-attr]  # there is one
            p.to_local().add_(mesh.replica)  # type: ignore[operator]  # a DTensor
    _attached(mesh, net, optimizer_of(net), fragments=2)
    return whole(net), whole(new_net())


def _attached(mesh: Mesh, net: Any, inner: Any, **fragments: int) -> Any:
    options: dict[str, Any] = {"engine": "fsdp", "group": mesh.replicas, "every": 4, **fragments}
    make: Any = attach_fragments if fragments else attach
    return make(net, inner, algorithms.signsgd(), outer=lambda params: torch.optim.SGD(params, lr=0.1), **options)
