"""What the spawned ranks of the failure tests run; each gives the text of the error it met."""

import os
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.distributed import Exchange
from gradvote.engines.distributed import hook_thread
from tests.engines.workers import batch, flat, new_model


def text_of(action: Callable[[], Any]) -> str:
    """The error of an action, with its type."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def with_gradients(seed: int = 0, **options: Any) -> tuple[nn.Module, Exchange]:
    model = new_model()
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(dist.get_rank()))
    return model, Exchange(model.named_parameters(), algorithms.signsgd(), seed=seed, timeout=20, **options)


def refusals() -> dict[str, str]:
    """Mistakes that all ranks survive."""
    rank, errors = dist.get_rank(), {}
    errors["seeds"] = text_of(lambda: with_gradients(seed=rank))
    errors["placement"] = text_of(lambda: with_gradients(placement="shraded"))
    errors["group"] = text_of(lambda: with_gradients(group="gloo"))
    ddp = DistributedDataParallel(new_model())
    errors["group of DDP"] = text_of(lambda: gradvote.ddp.attach(ddp, algorithms.signsgd(), group=[0, 1]))  # type: ignore[arg-type]  # a user's mistake
    errors["steps"] = text_of(lambda: _other_step(rank))
    errors["lies"] = text_of(lambda: _two_faced(rank))
    return errors


def _other_step(rank: int) -> None:
    model, exchange = with_gradients()
    state = exchange.state_dict()
    exchange.load_state_dict({**state, "step": 7 if rank == 1 else 6})
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    try:
        exchange.step()
    finally:
        assert all(
            torch.equal(p.grad, b) for p, b in zip(model.parameters(), before, strict=True) if p.grad is not None
        )


def _two_faced(rank: int) -> None:
    _, exchange = with_gradients(placement="replicated")
    if rank == 1:
        transport = exchange._session.transport
        honest, lies = transport.pack, [1]

        def pack(mail: Any, *room: Any) -> Any:
            if lies.pop() if lies else False:
                mail.messages[2] = [torch.cat(mail.messages[2])]
                mail.messages[2][0][10] ^= 1
            return honest(mail, *room)

        transport.pack = pack  # type: ignore[method-assign]
    exchange.step()


def dying(folder: str, how: str) -> None:
    """Rank 1 raises, dies or hangs in its third step; the others write down what they see, and when."""
    rank, (_, exchange) = dist.get_rank(), with_gradients()
    for step in range(5):
        if rank == 1 and step == 3:
            _fail(how)
        started = time.monotonic()
        error = text_of(exchange.step)
        if error:
            _note(folder, rank, f"{time.monotonic() - started:.1f} {error}")
            return


def dying_ddp(folder: str, how: str) -> None:
    """The same behind DDP's hook."""
    rank, model = dist.get_rank(), new_model()
    net = DistributedDataParallel(model)
    gradvote.ddp.attach(net, algorithms.signum(), timeout=20)
    for step in range(5):
        if rank == 1 and step == 3:
            _fail(how)
        started, (x, y) = time.monotonic(), batch(rank, step)
        error = text_of(lambda x=x, y=y: cross_entropy(net(x), y).backward())  # type: ignore[misc]
        if error:
            _note(folder, rank, f"{time.monotonic() - started:.1f} {error}")
            return


def _fail(how: str) -> None:
    if how == "raises":
        raise ZeroDivisionError("the data of rank 1 are broken")
    os._exit(3)


def _note(folder: str, rank: int, text: str) -> None:
    with open(f"{folder}/{rank}", "w", encoding="utf-8") as file:  # noqa: PTH123  # a plain name from the parent
        file.write(text)


def scaled(overflowing: tuple[int, ...]) -> tuple[Tensor, float, int]:
    """Parameters, scale and counted steps after 4 steps with loss scaling; `overflowing` ranks overflow in step 2."""
    rank, model = dist.get_rank(), new_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    net = DistributedDataParallel(model, bucket_cap_mb=0.002)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    vote = gradvote.ddp.attach(net, algorithms.dist_ef_sgdm(), optimizer=optimizer, scaler=scaler, timeout=60)
    for step in range(4):
        optimizer.zero_grad()
        x, y = batch(rank, step)
        loss = scaler.scale(cross_entropy(net(x), y))
        with mock.patch.object(hook_thread, "SMALL", 0):
            (loss * torch.inf if step == 2 and rank in overflowing else loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
    return flat(model), scaler.get_scale(), vote.stats().steps


def unscaled() -> Tensor:
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    exchange = Exchange(model.named_parameters(), algorithms.dist_ef_sgdm(), optimizer=optimizer, timeout=60)
    for step in range(4):
        optimizer.zero_grad()
        x, y = batch(dist.get_rank(), step)
        cross_entropy(model(x), y).backward()
        exchange.step()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return flat(model)


def scaling() -> dict[str, Any]:
    return {"unscaled": unscaled(), "none": scaled(()), "minority": scaled((2,)), "majority": scaled((0, 2))}
