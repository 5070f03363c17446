"""An exchange is built on all ranks or on none, and these begin alike: one recipe, one order, the values of rank 0."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from gradvote.engines.common.parameters import Parameters
from gradvote.engines.common.terms import Terms, differences, texts_of
from gradvote.engines.distributed.failures import Watch
from gradvote.engines.distributed.transport import Transport
from gradvote.staging import CPU, to_device


@contextmanager
def together(transport: Transport, watch: Watch) -> Iterator[None]:
    """Either the block inside succeeds on every rank, or none of them goes on. It must not talk to other ranks.

    Raises:
        RuntimeError: the block failed on another rank; the sentence says on which one and why.
        Exception: whatever the block itself raised, once the others know of it.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
        watch.tell_of_building(error)
    failed = [
        rank
        for rank, row in enumerate(transport.gather(torch.tensor([failure is not None], device=CPU)))
        if bool(row[0])
    ]
    if failure is not None:
        raise failure
    if failed:
        raise RuntimeError(
            f"The exchange was not built, on any rank, as {watch.causes_of_building(failed)}. Mend it there, and build "
            "it on all ranks."
        )


def check_alike(transport: Transport, parameters: Parameters, terms: Terms, version: int) -> None:
    """Compare what ranks were given, before anything travels whose size depends on it.

    Raises:
        ValueError: they differ; the sentence names each term that does with both values, or the first parameter.
    """
    pairs = zip(parameters.names, parameters.tensors, strict=True)
    described = [f"{name!r} of shape {tuple(p.shape)}, {p.dtype}" for name, p in pairs]
    texts = texts_of(terms)
    row = [version, _digest(repr(texts)), len(described), _digest(repr(described))]
    rows = transport.gather(torch.tensor(row, device=CPU))
    other = [rank for rank, own in enumerate(rows) if bool((own != rows[0]).any())]
    if not other:
        return
    what = _versions(rows) or [*_terms(transport, texts, other), *_parameters(transport, described, rows)]
    first, *others = _numbers(transport, [0, *other])
    raise ValueError(
        f"Rank {', '.join(others)} was given something else than rank {first}: {'; '.join(what)}. All ranks must build "
        "the vote with the same algorithm, seed, placement, options and parameters, in the same order."
    )


def check_terms(transport: Transport, terms: Terms, who: str) -> None:
    """Compare terms alone, among ranks that `who` names.

    Raises:
        ValueError: they differ; the sentence names each that does, with both values.
    """
    texts = texts_of(terms)
    rows = transport.gather(torch.tensor([_digest(repr(texts))], device=CPU))
    other = [rank for rank, own in enumerate(rows) if bool((own != rows[0]).any())]
    if other:
        raise ValueError(
            f"{who} were given different things: rank {', '.join(_numbers(transport, other))} has "
            f"{'; '.join(_terms(transport, texts, other))}. Give all of them the same."
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


def _versions(rows: Tensor) -> list[str]:
    """Ranks of another version cannot be asked more."""
    own = [*map(str, rows[:, 0].tolist())]
    return [f"they have other versions of gradvote (formats {', '.join(own)})"] if len(set(own)) > 1 else []


def _terms(transport: Transport, texts: Mapping[str, str], other: Sequence[int]) -> list[str]:
    """How the first rank that is unlike rank 0 differs from it; all ranks ask."""
    raw = json.dumps(texts).encode()
    longest = int(transport.gather(torch.tensor([len(raw)], device=CPU)).max())
    padded = torch.frombuffer(bytearray(raw.ljust(longest)), dtype=torch.uint8)
    said = [json.loads(own.numpy().tobytes()) for own in transport.gather(padded)]
    return differences(said[other[0]], said[0], f"on rank {_numbers(transport, [0])[0]}")


def _numbers(transport: Transport, ranks: Sequence[int]) -> list[str]:
    """The numbers in the job of ranks of the group."""
    known = dist.get_process_group_ranks(transport.group)
    return [str(known[rank]) for rank in ranks]


def _parameters(transport: Transport, described: Sequence[str], rows: Tensor) -> list[str]:
    """The first parameter that ranks have otherwise; all ranks ask."""
    if bool((rows[:, 3] == rows[0, 3]).all()):
        return []
    if bool((rows[:, 2] != rows[0, 2]).any()):
        return [f"the parameters, of which they have {', '.join(map(str, rows[:, 2].tolist()))}"]
    each = transport.gather(torch.tensor([_digest(text) for text in described], device=CPU))
    first = next(i for i in range(len(described)) if bool((each[:, i] != each[0, i]).any()))
    return [
        f"other parameters (names, shapes, types, or their order): parameter {first} is {described[first]} on this rank"
    ]


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
