"""What a rank holds of a sharded model, as plain tensors: asking a DTensor anything may be a collective of its own."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from gradvote.engines.common.arguments import in_words
from gradvote.engines.common.parameters import Parameters
from gradvote.layout import Layout

MEND = (
    "Give fully_shard the one-dimensional mesh of a replica, fully_shard(module, mesh=mesh['shard']), and attach the "
    "group across replicas: gradvote.fsdp.attach(model, algorithm, group=mesh['replicate'], optimizer=optimizer)."
)


class LocalParameter(Tensor):
    """This rank's part of a sharded parameter; its `.grad` is the local part of the sharded gradient, read and set."""

    whole: DTensor

    # as nn.Parameter does: what is computed from it are plain tensors
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # a static method in stubs

    @property
    def grad(self) -> Tensor | None:
        found = cast(DTensor | None, self.whole.grad)
        return None if found is None else local_of(found)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        # as FSDP does, and unlike from_local: the very tensor, on its own device where parameters are offloaded
        self.whole.grad = None if value is None else DTensor(value, self.whole._spec, requires_grad=False)


def local_parameter(whole: DTensor) -> LocalParameter:
    """The part of `whole` that is here."""
    made = local_of(whole).detach().as_subclass(LocalParameter)
    made.requires_grad_()
    made.whole = whole
    return made


@torch.no_grad()
def local_of(whole: DTensor) -> Tensor:
    """The part of a DTensor that is here: the tensor itself, whose version says whether it was changed."""
    return whole.to_local()


@torch.no_grad()
def like(whole: DTensor, local: Tensor) -> DTensor:
    """A DTensor sharded like `whole`, whose part on this rank is `local`."""
    mesh, placements = whole.device_mesh, whole.placements
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride())


def parameters_of(
    model: nn.Module, where: str, fragment: nn.Module | None = None
) -> tuple[list[DTensor], Parameters, Parameters]:
    """The trained parameters of a sharded model; the same as its optimizer has them; and their parts on this rank.

    Those of `fragment` alone, which has some of them under their names, where one is given.

    Raises:
        TypeError: this is no model.
        ValueError: it is not sharded by `fully_shard` over a one-dimensional mesh, as a whole.
    """
    _check_sharded(model, where)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # a root keeps whole parameters after a forward pass
    named = [*(fragment or model).named_parameters()]
    trained = [(name, p) for name, p in named if p.requires_grad]
    for name, p in trained:
        _check_parameter(name, p, trained[0][1])
    names, wholes = [name for name, _ in trained], [cast(DTensor, p) for _, p in trained]
    frozen: list[tuple[str, Tensor]] = [(name, p) for name, p in named if not p.requires_grad]
    here = [(name, local_of(p) if isinstance(p, DTensor) else p) for name, p in frozen]
    if not wholes:
        raise ValueError(f"{where}: there are no trainable parameters; at least one must have requires_grad=True.")
    return wholes, Parameters(names, [*wholes], frozen), Parameters(names, [local_of(p).detach() for p in wholes], here)


def shifts_of(layout: Layout, numels: Tensor, shard: int) -> list[int]:
    """What is added to the numbers of each parameter's blocks, so that no two shards have a number in common.

    `numels` (S, P) are the coordinates of all shards. Blocks are counted by parameter, then by shard: as in the
    unsharded model, where its blocks end with the shards.
    """
    size = layout.block_size
    blocks = -(-numels // size) if size is not None else (numels > 0).long()
    before = blocks.sum(0).cumsum(0) - blocks.sum(0) + blocks[:shard].sum(0)
    own = blocks[shard].cumsum(0) - blocks[shard]
    return [int(shift) for shift in before - own]


def check_not_empty(local: Parameters) -> None:
    """Raise ValueError for a rank without any coordinate."""
    if not any(p.numel() for p in local.tensors):
        raise ValueError(
            "This rank's shard has no trainable parameters, as every tensor has fewer rows than there are shards. "
            "Shard over fewer ranks, and use the others as replicas; of fragments use fewer."
        )


def _check_sharded(model: Any, where: str) -> None:
    if not isinstance(model, nn.Module):
        order = " The arguments are in another order than expected." if hasattr(model, "aggregate") else ""
        raise TypeError(f"{where} takes a model sharded by fully_shard; got {in_words(model)}.{order}")
    if isinstance(getattr(model, "_orig_mod", None), FSDPModule):
        raise ValueError(
            f"{where} takes the sharded model itself; got a compiled one. Attach first, then compile: attach(model, "
            "...); model = torch.compile(model)."
        )
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if not modules:
        raise ValueError(
            f"{where} takes a model sharded by torch.distributed.fsdp.fully_shard; got {in_words(model)}, none of "
            f"whose modules is. {MEND} For models that are whole on every worker use gradvote.ddp or "
            "gradvote.distributed.Exchange."
        )
    if not hasattr(modules[0], "set_all_reduce_hook"):
        raise ValueError(f"{where} needs FSDPModule.set_all_reduce_hook, of torch 2.7; this is {torch.__version__}.")


def _check_parameter(name: str, p: Tensor, first: Tensor) -> None:
    if not isinstance(p, DTensor):
        raise ValueError(
            f"The parameter {name!r} is trained but not sharded, so that the ranks of a replica would part on it. Call "
            "fully_shard on the root module, too, after those inside it; or freeze the parameter (requires_grad_)."
        )
    if p.device_mesh.ndim == 2 and any(placement.is_replicate() for placement in p.placements):
        raise ValueError(
            f"The parameter {name!r} is sharded over a mesh of two dimensions (hybrid sharding): torch averages its "
            f"gradient between replicas, in full precision, before any vote. {MEND}"
        )
    if p.device_mesh.ndim != 1 or not all(placement.is_shard() for placement in p.placements):
        raise ValueError(
            f"The parameter {name!r} is placed as {p.placements} on a mesh of {p.device_mesh.ndim} dimensions; votes "
            "know shards over one dimension, without tensor parallelism."
        )
    if isinstance(first, DTensor) and p.device_mesh != first.device_mesh:
        raise ValueError(f"The parameter {name!r} is sharded over other ranks than the first. Use one mesh for all.")
    if local_of(p).is_meta:
        raise ValueError(
            f"The parameter {name!r} is on the meta device. Give it values before attaching: model.to_empty(device=...)"
            " and its initialisation, or a checkpoint."
        )
    if not p.is_floating_point():
        raise ValueError(f"The parameter {name!r} is {p.dtype}; only real parameters are exchanged.")


def check_group(shards: Sequence[int], replicas: Sequence[int]) -> None:
    """Raise ValueError for ranks `replicas` that are not one of each replica; `shards` are those of this one."""
    own = dist.get_rank()
    if own not in replicas:
        raise ValueError(f"Rank {own} is not in the group of ranks {list(replicas)} that attach was given. {MEND}")
    common = sorted(set(shards) & set(replicas))
    if common != [own]:
        raise ValueError(
            f"group= holds the ranks {list(replicas)}, of which {common} are shards of one replica, that of rank "
            f"{own}: between them torch has added up the gradient already. It takes the ranks that hold the same shard "
            f"in each replica. {MEND}"
        )
