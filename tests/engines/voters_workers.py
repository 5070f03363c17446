"""Who votes on what: ranks that begin apart, layers nobody used, what is refused, as two spawned ranks run it."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.distributed import Exchange
from gradvote.faults import Faulty
from gradvote.faults.alie import Alie
from gradvote.faults.invert import Invert
from tests.engines.failing_workers import text_of
from tests.engines.habit_workers import nothing, with_warnings
from tests.engines.workers import batch, flat, new_model


class Partly(nn.Module):
    """A layer that the loss never reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(20, 5), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.used(x)
        return out


def undecided() -> dict[str, tuple[bool, float]]:
    """Whether an unused layer has a gradient, and how far it moved, with decay and momentum."""
    found = {}
    for name in ("exchange", "ddp", "views"):
        torch.manual_seed(0)
        model = Partly()
        before = flat(model.unused)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
        net: nn.Module = model
        if name != "exchange":
            net = DistributedDataParallel(model, find_unused_parameters=True, gradient_as_bucket_view=name == "views")
            gradvote.ddp.attach(net, algorithms.signsgd(), optimizer=optimizer, timeout=60)
            step = nothing
        else:
            step = Exchange(model.named_parameters(), algorithms.signsgd(), optimizer=optimizer, timeout=60).step
        for k in range(3):
            optimizer.zero_grad(set_to_none=k != 1)
            cross_entropy(net(torch.randn(6, 20)), torch.randint(5, (6,))).backward()
            step()
            optimizer.step()
        moved = float((flat(model.unused) - before).abs().max())
        found[name] = model.unused.weight.grad is not None, moved
    return found


def all_abstain() -> dict[str, tuple[bool, float, float]]:
    """A step whose gradients are NaN on all ranks: whether all stays finite, the movement, and the scale after it."""
    found = {}
    for name in ("exchange", "ddp"):
        for scaler in (
            None,
            torch.amp.GradScaler("cpu", init_scale=1024.0),
            torch.amp.GradScaler("cpu", enabled=False),
        ):
            model = new_model()
            before, net = flat(model), model if name == "exchange" else DistributedDataParallel(model)
            optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
            options: dict[str, Any] = {"optimizer": optimizer, "scaler": scaler, "timeout": 60}
            step = nothing
            if name == "exchange":
                step = Exchange(model.named_parameters(), algorithms.signsgd(), **options).step
            else:
                gradvote.ddp.attach(net, algorithms.signsgd(), **options)
            loss = net(batch(dist.get_rank(), 0)[0]).sum() * float("nan")
            (loss if scaler is None else scaler.scale(loss)).backward()
            step()
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
            kind = "none" if scaler is None else "enabled" if scaler.is_enabled() else "disabled"
            moved = float((flat(model) - before).abs().max())
            found[f"{name}, {kind}"] = bool(flat(model).isfinite().all()), moved, scaler.get_scale() if scaler else 1.0
    return found


def overflow_on_one_rank() -> dict[str, tuple[Tensor, list[str]]]:
    """Unscaled before the vote: parameters of this rank, and what was said."""
    return {name: with_warnings(partial(_overflow, name)) for name in ("named", "unnamed")}


def _overflow(name: str) -> Tensor:
    model, scaler = new_model(), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    exchange = Exchange(
        model.parameters(), algorithms.signsgd(), optimizer=optimizer, scaler=scaler if name == "named" else None
    )
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(cross_entropy(model(batch(dist.get_rank(), step)[0]), batch(dist.get_rank(), step)[1])).backward()
        if step == 2 and dist.get_rank() == 1:
            next(model.parameters()).grad[0, 0] = float("inf")  # type: ignore[index]
        scaler.unscale_(optimizer)
        exchange.step()
        scaler.step(optimizer)
        scaler.update()
    return flat(model)


def began_apart() -> dict[str, tuple[Tensor, Tensor]]:
    """Parameters and buffers that began with another value on each rank, by what `Exchange` was given."""
    return {"all": _began_apart(lambda p: True), "trainable": _began_apart(lambda p: p.requires_grad)}


def _began_apart(given: Callable[[nn.Parameter], bool]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(100 + dist.get_rank())
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    statistics = model[1].running_mean
    assert isinstance(statistics, Tensor)
    statistics += dist.get_rank()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    Exchange([p for p in model.parameters() if given(p)], algorithms.signsgd(), optimizer=optimizer)
    return flat(model), statistics.clone()


def refusals() -> dict[str, str]:
    """What is said, by case."""
    A, rank = algorithms.signsgd(), dist.get_rank()
    a, b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    pairs = [("a", a), ("b", b)]
    shape = (3, 4) if rank == 0 else (4, 3)
    net = DistributedDataParallel(new_model())
    half = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16 if rank else torch.float32))
    cases: dict[str, Callable[[], Any]] = {
        "order": lambda: Exchange(pairs if rank == 0 else pairs[::-1], A),
        "shapes": lambda: Exchange([nn.Parameter(torch.zeros(shape))], A),
        "types": lambda: Exchange([half], A),
        "number": lambda: Exchange(pairs[: 1 + rank], A),
        "wrapped": lambda: Exchange(net.module.parameters(), A),
        "compiled": lambda: gradvote.ddp.attach(torch.compile(DistributedDataParallel(new_model())), A),  # type: ignore[arg-type]
        "swapped": lambda: gradvote.ddp.attach(A, net),  # type: ignore[arg-type]
        "buffers": lambda: _with_buffers(rank),
    }
    return {name: text_of(case) for name, case in cases.items()}


def refused_on_one_rank() -> dict[str, tuple[str, float]]:
    """What each rank hears, and after how long, where only rank 1 gives what cannot be."""
    wrong = dist.get_rank() == 1
    model, A = new_model(), algorithms.signsgd()
    optimizer: Any = torch.optim.SGD if wrong else torch.optim.SGD(model.parameters(), 0.1)
    rule: Any = "signsgd" if wrong else A
    table = nn.Embedding(5, 3, sparse=wrong)
    placement: Any = "shraded" if wrong else "sharded"
    faults = [Faulty(Invert(), num=7)] if wrong else []
    seers = [Faulty(Alie())] if wrong else []
    cases: dict[str, Callable[[DistributedDataParallel], Any]] = {
        "algorithm": lambda ddp: Exchange(model.parameters(), rule, timeout=60),
        "optimizer": lambda ddp: Exchange(model.parameters(), A, optimizer=optimizer, timeout=60),
        "sparse": lambda ddp: Exchange(table.parameters(), A, timeout=60),
        "placement": lambda ddp: Exchange(model.parameters(), A, placement=placement, timeout=60),
        "faults": lambda ddp: Exchange(model.parameters(), A, faults=faults, timeout=60),
        "all gradients": lambda ddp: Exchange(model.parameters(), A, faults=seers, timeout=60),
        "max_norm": lambda ddp: Exchange(model.parameters(), A, max_norm=-1.0 if wrong else 1.0, timeout=60),
        "ddp algorithm": lambda ddp: gradvote.ddp.attach(ddp, rule, timeout=60),
        "ddp optimizer": lambda ddp: gradvote.ddp.attach(
            ddp, A, optimizer=optimizer if wrong else torch.optim.SGD(ddp.parameters(), 0.1), timeout=60
        ),
        "ddp model": lambda ddp: gradvote.ddp.attach(ddp.module if wrong else ddp, A, timeout=60),  # type: ignore[arg-type]
        "ddp all gradients": lambda ddp: gradvote.ddp.attach(ddp, A, faults=seers, timeout=60),
        "ddp placement": lambda ddp: gradvote.ddp.attach(ddp, A, placement=placement, timeout=60),
    }
    found = {}
    for name, case in cases.items():
        net, started = DistributedDataParallel(new_model()), time.perf_counter()
        found[name] = text_of(partial(case, net)), time.perf_counter() - started
    return found


def _with_buffers(rank: int) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("own", torch.zeros(2 + rank))
    Exchange(model.parameters(), algorithms.signsgd())


def changed_later() -> dict[str, str]:
    """What is said where a layer is unfrozen after the start, or a group is added."""
    return {name: text_of(partial(_change, name)) for name in ("exchange", "trainable", "ddp", "added")}


def _change(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[1].parameters(), 0.1)
    net: nn.Module = DistributedDataParallel(model) if name == "ddp" else model
    step = nothing
    if name == "ddp":
        gradvote.ddp.attach(net, algorithms.signsgd(), optimizer=optimizer, timeout=60)  # type: ignore[arg-type]
    else:
        given = [(n, p) for n, p in model.named_parameters() if name != "trainable" or p.requires_grad]
        step = Exchange(given, algorithms.signsgd(), optimizer=optimizer, timeout=60).step
    for k in range(2):
        net(torch.ones(1, 4)).sum().backward()
        step()
        optimizer.step()
        optimizer.zero_grad()
        if k == 0:
            model[0].requires_grad_(name != "added")
            optimizer.add_param_group({"params": nn.Linear(4, 4).parameters()} if name == "added" else {"params": []})


def odd_gradients() -> dict[str, Any]:
    """A gradient without memory of its own on one rank; sparse ones; and BatchNorm in a list of parameters."""
    p = nn.Parameter(torch.zeros(4, 3))
    exchange = Exchange([("p", p)], algorithms.ef_signsgd())
    p.grad = torch.ones(1, 1).expand(4, 3) if dist.get_rank() == 0 else torch.ones(4, 3)
    exchange.step()
    table = nn.Embedding(5, 3, sparse=True)
    sparse = text_of(lambda: Exchange([table.weight], algorithms.signsgd()))
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    _, said = with_warnings(lambda: Exchange(list(model.parameters()), algorithms.signsgd()))
    return {"written": p.grad, "sparse": sparse, "statistics": said}


def one_of_two_optimizers() -> dict[str, tuple[float, float]]:
    """A known scaler and an optimizer whose layer nobody uses: how far it moved, and the scale."""
    found = {}
    for name in ("exchange", "ddp"):
        torch.manual_seed(0)
        model, scaler = Partly(), torch.amp.GradScaler("cpu", init_scale=1024.0)
        before = flat(model.unused)
        pair = [torch.optim.SGD(model.used.parameters(), 0.1), torch.optim.AdamW(model.unused.parameters(), 0.01)]
        net: nn.Module = model if name == "exchange" else DistributedDataParallel(model, find_unused_parameters=True)
        step = nothing
        if name == "exchange":
            exchange = Exchange(model.named_parameters(), algorithms.signsgd(), optimizer=pair, scaler=scaler)
            step = exchange.step
        else:
            gradvote.ddp.attach(net, algorithms.signsgd(), optimizer=pair, scaler=scaler)  # type: ignore[arg-type]
        for _ in range(3):
            scaler.scale(cross_entropy(net(torch.randn(6, 20)), torch.randint(5, (6,)))).backward()
            step()
            for optimizer in pair:
                scaler.step(optimizer)
            scaler.update()
            model.zero_grad()
        found[name] = float((flat(model.unused) - before).abs().max()), scaler.get_scale()
    return found


def everything() -> dict[str, Any]:
    own = (
        undecided,
        all_abstain,
        overflow_on_one_rank,
        began_apart,
        refusals,
        refused_on_one_rank,
        odd_gradients,
        changed_later,
        one_of_two_optimizers,
    )
    return {f.__name__: f() for f in own}
