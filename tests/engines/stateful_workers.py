"""What the spawned ranks of the checkpoint and accounting tests run."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

import gradvote
from gradvote import algorithms
from gradvote.distributed import Exchange, ExchangeStats
from gradvote.engines.distributed import chunking
from tests.engines.leftovers import with_leftovers
from tests.engines.workers import exchange_steps, lr_at, new_model

ALGORITHM = algorithms.dist_ef_sgdm()


def trained(model: nn.Module, steps: range, group: Any = None, state: Any = None, **options: Any) -> Exchange:
    optimizer, shared = (
        torch.optim.SGD(model.parameters(), lr_at(0)),
        {"algorithm": ALGORITHM, "seed": 3, "timeout": 60},
    )
    exchange = Exchange(model.named_parameters(), optimizer=optimizer, group=group, **{**shared, **options})
    if state is not None:
        exchange.load_state_dict(state)
    exchange_steps(model, exchange, optimizer, steps)
    return exchange


LOST = {
    "worker": ("worker",),
    "parameter": ("worker", "0.weight"),
    "memory": ("worker", "4.bias", "codec.memory"),
    "server": ("server",),
}


def _without(state: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A state in which something is empty: one side of it, or a parameter; or a memory is missing."""
    if len(keys) == 3:
        inside = {name: value for name, value in state[keys[0]][keys[1]].items() if name != keys[2]}
        return {**state, keys[0]: {**state[keys[0]], keys[1]: inside}}
    left = {} if len(keys) == 1 else {name: own for name, own in state[keys[0]].items() if name != keys[1]}
    return {**state, keys[0]: left}


def checkpoints(folder: str) -> dict[str, Any]:
    """States of 3 ranks after 5 steps; those of 2 ranks that go on from them; a DCP round trip; a wrong file."""
    rank, model = dist.get_rank(), new_model()
    first = trained(model, range(5))
    states: list[Any] = [None] * 3
    dist.all_gather_object(states, first.state_dict())
    pair = dist.new_group([0, 1])
    smaller = gradvote.distributed.resize(states, 2, "replicated")
    larger = gradvote.distributed.resize(smaller, 3, "central")
    result: dict[str, Any] = {
        "states": states,
        "smaller": smaller,
        "larger": larger,
        "dcp": _through_dcp(folder, first),
    }
    if rank < 2:
        again = trained(new_model(), range(0), pair, smaller[rank], placement="replicated")
        result["loaded"] = again.state_dict()
        result["went on"] = trained(new_model(), range(5, 8), pair, smaller[rank], placement="replicated").stats().steps
    trained(new_model(), range(5, 6), None, larger[rank], placement="central")
    result["leftovers"] = _of_another_package(pair)
    result["refused"] = _refused(first, {**states[rank], "rank": 5})
    result["missing"] = {name: _refused(first, _without(states[rank], *keys)) for name, keys in LOST.items()}
    return result


def _of_another_package(pair: Any) -> list[Any]:
    """The states of 3 ranks, and those of 2 as loaded by them, with a memory that has keys of its own."""
    states, rank = [None] * 3, dist.get_rank()
    dist.all_gather_object(states, trained(new_model(), range(2), algorithm=with_leftovers()).state_dict())
    smaller = gradvote.distributed.resize(states, 2)  # type: ignore[arg-type]  # all have arrived
    if rank < 2:
        again = trained(new_model(), range(2, 4), pair, smaller[rank], algorithm=with_leftovers())
        assert again.stats().steps == 2
    return [states, smaller]


def _through_dcp(folder: str, exchange: Exchange) -> bool:
    rank = dist.get_rank()
    saved = exchange.state_dict()
    dcp.save({f"vote{rank}": saved}, checkpoint_id=Path(folder) / "dcp", no_dist=False)
    fresh = trained(new_model(), range(0))
    target = {f"vote{rank}": fresh.state_dict()}
    dcp.load(target, checkpoint_id=Path(folder) / "dcp")
    fresh.load_state_dict(target[f"vote{rank}"])
    return equal(fresh.state_dict(), saved)


def _refused(exchange: Exchange, state: Any) -> str:
    before = exchange.state_dict()
    try:
        exchange.load_state_dict(state)
    except ValueError as error:
        assert equal(exchange.state_dict(), before)
        return str(error)
    return ""


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return bool(torch.equal(a, b)) if isinstance(a, Tensor) else a == b


def accounting() -> dict[str, list[ExchangeStats]]:
    """The counts of all ranks for a million coordinates; rank 1's gradient is not finite in one block."""
    results = {}
    for placement in ("central", "sharded", "replicated"):
        p = nn.Parameter(torch.zeros(1_000_000))
        exchange = Exchange([p], algorithms.signsgd(), placement=placement, timeout=60)  # type: ignore[arg-type]
        p.grad = torch.full_like(p, -1.0 if dist.get_rank() == 3 else 1.0)
        if dist.get_rank() == 1:
            p.grad[20_000] = torch.nan
        exchange.step()
        results[placement] = exchange.all_stats()
        assert torch.equal(p.grad, torch.ones_like(p))
    return results


def open_chunks() -> dict[str, Any]:
    """Directions and memories after steps with one chunk, and with chunks that are tried out."""
    chunking.CHUNK = 50_000
    results: dict[str, Any] = {}
    for name, chunks in {"one": 1, "open": None}.items():
        p, generator = nn.Parameter(torch.zeros(300_000)), torch.Generator().manual_seed(dist.get_rank())
        exchange = Exchange([p], algorithms.dropsignsgd(), chunks=chunks, timeout=60)
        used = set()
        for _ in range(chunking.NUMBERS * chunking.TRIALS + 2):
            p.grad = torch.randn(p.shape, generator=generator)
            used.add(len(exchange._chunking.layouts()))
            exchange.step()
        results[name] = {"direction": _grad(p), "state": exchange.state_dict(), "used": used}
    results["left"] = len(exchange._chunking.layouts())
    return results


def odd_gradients() -> dict[str, Tensor]:
    """Directions for a missing gradient, half precision and a channels-last weight."""
    rank = dist.get_rank()
    missing, half = nn.Parameter(torch.zeros(70)), nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    image = nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    half.grad = torch.tensor([1.0, -2.0, 3.0], dtype=torch.bfloat16)
    values = torch.arange(96.0).view(2, 3, 4, 4) - 40.5
    image.grad = values.to(memory_format=torch.channels_last)
    if rank == 1:
        missing.grad = torch.full((70,), -1.0)
    exchange = Exchange([missing, half, image], algorithms.signsgd(), timeout=60)
    exchange.step()
    assert image.grad.is_contiguous(memory_format=torch.channels_last)
    return {"missing": _grad(missing), "half": _grad(half), "image": _grad(image), "values": values}


def odd() -> dict[str, Any]:
    return {**odd_gradients(), **open_chunks()}


def _grad(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad
