"""Ranks begin alike: the same recipe, the same parameters in the same order, and the values of rank 0."""

import hashlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from gradvote.engines.common.parameters import Parameters
from gradvote.engines.common.placement import PLACEMENTS
from gradvote.engines.distributed.transport import Transport
from gradvote.staging import CPU, to_device


def check_alike(transport: Transport, parameters: Parameters, recipe: str, placement: str, version: int) -> None:
    """Compare what ranks were given, before anything travels whose size depends on it.

    Raises:
        ValueError: they differ; the sentence names the first parameter that does, or says what else may.
    """
    pairs = zip(parameters.names, parameters.tensors, strict=True)
    described = [f"{name!r} of shape {tuple(p.shape)}, {p.dtype}" for name, p in pairs]
    row = [_digest(recipe), PLACEMENTS.index(placement), version, len(described), _digest(repr(described))]
    rows = transport.gather(torch.tensor(row, device=CPU))
    different = [str(rank) for rank, own in enumerate(rows) if bool((own != rows[0]).any())]
    if not different:
        return
    if bool((rows[:, 3] == rows[0, 3]).all()):
        each = transport.gather(torch.tensor([_digest(text) for text in described], device=CPU))
        first = next((i for i in range(len(described)) if bool((each[:, i] != each[0, i]).any())), None)
        where = "" if first is None else f" Parameter {first} differs: on this rank it is {described[first]}."
    else:
        where = f" They have {', '.join(map(str, rows[:, 3].tolist()))} parameters."
    raise ValueError(
        f"Rank {', '.join(different)} has another algorithm, seed or placement, or other parameters (names, shapes, "
        f"types, or their order), or another check_parameters_every, than rank 0.{where} All ranks must build the "
        "exchange with the same ones, and take as many local steps to a round."
    )


def make_alike(transport: Transport, parameters: Parameters, buffers: Sequence[tuple[str, Tensor]]) -> None:
    """Give parameters, frozen ones included, and buffers the values that they have on rank 0, as DDP does.

    Raises:
        ValueError: the ranks' buffers or frozen parameters differ in number, shape or type; nothing was changed.
    """
    rest = [*parameters.frozen, *buffers]
    text = repr([(name, tuple(p.shape), p.dtype) for name, p in rest])
    rows = transport.gather(torch.tensor([_digest(text)], device=CPU))
    if bool((rows != rows[0]).any()):
        raise ValueError(
            f"The ranks have different buffers or frozen parameters; those of this rank are {text[:500]}. Build the "
            "same model on all ranks, or pass init_sync=False and make the ranks alike yourself."
        )
    for tensor in (*parameters.tensors, *(p for _, p in rest)):
        _take_from_first(transport, tensor)


@torch.no_grad()
def _take_from_first(transport: Transport, tensor: Tensor) -> None:
    own = to_device(tensor.detach().contiguous().reshape(-1).view(torch.uint8), transport.device)
    raw = own.clone()
    if raw.numel():
        group = transport.group
        dist.broadcast(raw, dist.get_global_rank(group, 0) if group is not None else 0, group=group)
    if not torch.equal(raw, own):
        tensor.copy_(to_device(raw, tensor.device).view(tensor.dtype).view(tensor.shape))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
