"""What ordinary scripts do behind DDP and with `Exchange`, as two spawned ranks run it."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.distributed import Exchange
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.distributed import hook_thread
from gradvote.engines.gradients import local_gradients, set_gradients, trainable
from gradvote.engines.simulation import Simulation
from tests.engines.ddp_workers import VARIANTS
from tests.engines.workers import batch, flat, new_model

SEED, STEPS = 3, 4
Pass = Callable[[nn.Module, int], None]


def with_warnings(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in seen if issubclass(w.category, UserWarning)]


def backward(net: nn.Module, number: int, scale: float = 1.0) -> None:
    x, y = batch(dist.get_rank(), number)
    (cross_entropy(net(x), y) * scale).backward()


# --- several votes for one step ------------------------------------------------------------------------------------


def by_votes(algorithm: Algorithm, passes: int, scale: float) -> Tensor:
    """What a step of several votes should do: each on its own gradient, the directions added up."""
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    exchange = Exchange(model.named_parameters(), algorithm, optimizer=optimizer, seed=SEED, timeout=60)
    for step in range(STEPS):
        total = [torch.zeros_like(p) for p in model.parameters()]
        for k in range(passes):
            optimizer.zero_grad()
            backward(model, passes * step + k, scale)
            exchange.step()
            for own, p in zip(total, model.parameters(), strict=True):
                own.add_(torch.zeros_like(p) if p.grad is None else p.grad)
        for own, p in zip(total, model.parameters(), strict=True):
            p.grad = own
        optimizer.step()
    return flat(model)


def by_exchange(algorithm: Algorithm, passes: int, scale: float, set_to_none: bool) -> Tensor:
    """The same, with one `zero_grad` for a step."""
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    exchange = Exchange(model.named_parameters(), algorithm, optimizer=optimizer, seed=SEED, timeout=60)
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none)
        for k in range(passes):
            backward(model, passes * step + k, scale)
            exchange.step()
        optimizer.step()
    return flat(model)


def by_ddp(algorithm: Algorithm, passes: int, scale: float, options: dict[str, Any], outside: bool = False) -> Tensor:
    """The same behind DDP; `outside`: all but the last backward pass inside `no_sync`, the forward pass outside."""
    model, small = new_model(), options.get("small", hook_thread.SMALL)
    net = DistributedDataParallel(model, **{k: v for k, v in options.items() if k != "small"})
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    gradvote.ddp.attach(net, algorithm, optimizer=optimizer, seed=SEED, timeout=60)
    with mock.patch.object(hook_thread, "SMALL", small):
        for step in range(STEPS):
            optimizer.zero_grad()
            for k in range(passes):
                x, y = batch(dist.get_rank(), passes * step + k)
                loss = cross_entropy(net(x), y) * scale
                with net.no_sync() if outside and k < passes - 1 else nullcontext():
                    loss.backward()
            optimizer.step()
    return flat(model)


def several_votes() -> dict[str, tuple[Tensor, Tensor, list[str]]]:
    found = {}
    for name in ("signsgd", "dist-ef-sgdm", "mediansgd"):
        algorithm, scale = algorithms.create(name), 1e-9 if name == "signsgd" else 1.0
        expected = by_votes(algorithm, 2, scale)
        runs: dict[str, Callable[[], Tensor]] = {
            variant: partial(by_ddp, algorithm, 2, scale, options) for variant, options in VARIANTS.items()
        }
        runs["forward outside no_sync"] = partial(by_ddp, algorithm, 2, scale, {}, outside=True)
        for set_to_none in (True, False):
            runs[f"exchange, {set_to_none}"] = partial(by_exchange, algorithm, 2, scale, set_to_none)
        for kind, run in runs.items():
            own, said = with_warnings(run)
            found[f"{name}, {kind}"] = own, expected, said
    return found


# --- bounded gradients ---------------------------------------------------------------------------------------------


def bounded() -> dict[str, tuple[Tensor, Tensor]]:
    """Parameters with `max_norm`, and those of the simulation."""
    found = {}
    for name in ("dist-ef-sgdm", "mediansgd"):
        algorithm, M = algorithms.create(name), dist.get_world_size()
        model = new_model()
        names, params = [n for n, _ in model.named_parameters()], trainable(model)
        simulation = Simulation(protocol_for(params, algorithm, SEED, names), M, max_norm=0.5)
        optimizer = torch.optim.SGD(params, 0.01)
        for step in range(STEPS):
            layout = simulation.protocol.layout
            gradients = torch.zeros(M, layout.size)
            for i in range(M):
                layout.flatten(local_gradients(model, *batch(i, step))[1], out=gradients[i])
            set_gradients(params, layout, simulation.step(gradients, step, 0.01), simulation.decided[0])
            optimizer.step()
        for variant, options in {**VARIANTS, "exchange": None, "three chunks": None}.items():
            own = _train_bounded(algorithm, variant, options)
            found[f"{name}, {variant}"] = own, flat(model)
    return found


def _train_bounded(algorithm: Algorithm, variant: str, options: dict[str, Any] | None) -> Tensor:
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    common: dict[str, Any] = {"optimizer": optimizer, "seed": SEED, "timeout": 60, "max_norm": 0.5}
    if options is None:
        net: nn.Module = model
        chunks = 3 if variant == "three chunks" else None
        step = Exchange(model.named_parameters(), algorithm, chunks=chunks, **common).step
    else:
        net = DistributedDataParallel(model, **{k: v for k, v in options.items() if k != "small"})
        gradvote.ddp.attach(net, algorithm, **common)
        step = nothing
    with mock.patch.object(hook_thread, "SMALL", (options or {}).get("small", hook_thread.SMALL)):
        for number in range(STEPS):
            optimizer.zero_grad()
            backward(net, number)
            step()
            optimizer.step()
    return flat(model)


def nothing() -> None:
    pass


def everything() -> dict[str, Any]:
    return {f.__name__: f() for f in (several_votes, bounded)}
