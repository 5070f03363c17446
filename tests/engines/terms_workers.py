"""Ranks that were given something else each, argument by argument, as two spawned ranks see it."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer

from gradvote import algorithms, ddp, local_steps
from gradvote.distributed import Exchange
from gradvote.privacy import Gaussian
from tests.engines.failing_workers import text_of


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(6, 3)


def sgd(lr: float = 0.1, **options: Any) -> Callable[[Any], Optimizer]:
    return lambda params: SGD(params, lr, **options)


def exchange(make: Callable[[Any], Optimizer] | None = None, **own: Any) -> None:
    model = small()
    optimizer = None if make is None else make(model.parameters())
    algorithm = own.pop("algorithm", algorithms.signum())
    Exchange(model.named_parameters(), algorithm, optimizer=optimizer, **{"timeout": 60, **own})


def behind_ddp(make: Callable[[Any], Optimizer] | None = None, bucket_cap_mb: float = 25.0, **own: Any) -> None:
    model = DistributedDataParallel(small(), bucket_cap_mb=bucket_cap_mb)
    ddp.attach(model, algorithms.signum(), optimizer=(make or sgd())(model.parameters()), timeout=60, **own)


def local(**own: Any) -> None:
    model = small()
    inner = [SGD(model.parameters(), 0.1)]
    options: dict[str, Any] = {"every": 4, "outer": sgd(0.7), "timeout": 60, **own}
    attach = local_steps.attach_fragments if "fragments" in own else local_steps.attach
    attach(model, own.pop("inner", inner), algorithms.diloco(), **{k: v for k, v in options.items() if k != "inner"})


def scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu")


CASES: dict[str, tuple[Callable[..., None], dict[str, Any], dict[str, Any]]] = {
    "algorithm": (exchange, {}, {"algorithm": algorithms.signum(beta=0.5)}),
    "seed": (exchange, {}, {"seed": 3}),
    "placement": (exchange, {}, {"placement": "central"}),
    "state_dtype": (exchange, {}, {"state_dtype": "bfloat16"}),
    "init_sync": (exchange, {}, {"init_sync": False}),
    "chunks": (exchange, {"chunks": 1}, {"chunks": 2}),
    "check_parameters_every": (exchange, {}, {"check_parameters_every": None}),
    "scaler": (exchange, {"scaler": None}, {"scaler": scaler}),
    "rate": (exchange, {"make": sgd()}, {"make": sgd(0.2)}),
    "kind": (exchange, {"make": sgd()}, {"make": AdamW}),
    "no optimizer": (exchange, {"make": sgd()}, {}),
    "momentum": (exchange, {"make": sgd()}, {"make": sgd(momentum=0.9)}),
    "ddp rate": (behind_ddp, {}, {"make": sgd(0.2)}),
    "ddp scaler": (behind_ddp, {}, {"scaler": scaler}),
    "ddp buckets": (behind_ddp, {}, {"bucket_cap_mb": 1.0}),
    "every": (local, {}, {"every": 5}),
    "delay": (local, {"delay": 2}, {"delay": 1}),
    "no delay": (local, {}, {"delay": 1}),
    "mix": (local, {"delay": 2}, {"delay": 2, "mix": 0.25}),
    "fragments": (local, {"fragments": 1}, {"fragments": 2}),
    "no fragments": (local, {}, {"fragments": 2}),
    "a fragment's delay": (local, {"fragments": 2}, {"fragments": 2, "delay": 1}),
    "outer rate": (local, {}, {"outer": sgd(0.5)}),
    "outer rate of a delayed round": (local, {"delay": 1}, {"delay": 1, "outer": sgd(0.5)}),
    "outer kind": (local, {}, {"outer": lambda params: AdamW(params, 0.7)}),
    "no inner optimizer": (local, {"every": 1}, {"every": 1, "inner": None}),
}


def told() -> dict[str, str]:
    """What both ranks are told of each difference, of which rank 1 has the second half."""
    found = {}
    for name, (build, *halves) in CASES.items():
        own = {k: v() if v is scaler else v for k, v in halves[dist.get_rank()].items()}
        found[name] = text_of(lambda build=build, own=own: build(**own))
    return found


def alike() -> list[str]:
    """What may differ: nothing is said."""
    rank = dist.get_rank()
    fused = [sgd(foreach=False), sgd(foreach=True)][rank]
    noise = {"privacy": Gaussian(noise_multiplier=1.0, max_norm=1.0, delta=1e-5), "secret": bytes(32)}
    cases: list[tuple[Callable[..., None], dict[str, Any]]] = [
        (exchange, {"make": fused, "max_norm": [1.0, None][rank], "timeout": 60 + rank}),
        (exchange, {"make": sgd(0.1 + rank), "check_parameters_every": None}),
        (exchange, {"algorithm": algorithms.signsgd(), **(noise if rank else {})}),
        (local, {"inner": [[SGD, AdamW][rank]([nn.Parameter(torch.zeros(1))], 0.1 + rank)]}),
    ]
    return [text_of(lambda build=build, own=own: build(**own)) for build, own in cases]


def bounded_on_one_rank() -> dict[str, Tensor]:
    """Behind DDP in several buckets, where rank 1 alone bounds its gradient, or hides it."""
    found = {}
    noise = Gaussian(noise_multiplier=1.0, max_norm=1.0, delta=1e-5)
    for name, own in {"max_norm": {"max_norm": 0.1}, "privacy": {"privacy": noise, "secret": bytes(32)}}.items():
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(300, 300) for _ in range(4)))
        net = DistributedDataParallel(model, bucket_cap_mb=0.1)
        optimizer = SGD(model.parameters(), 0.1)
        options = own if dist.get_rank() else {}
        ddp.attach(net, algorithms.signsgd(), optimizer=optimizer, timeout=60, **options)  # type: ignore[arg-type]  # of two kinds
        for step in range(3):
            optimizer.zero_grad()
            net(torch.randn(2, 300, generator=torch.Generator().manual_seed(step))).pow(2).mean().backward()
            optimizer.step()
        found[name] = torch.cat([p.detach().flatten() for p in model.parameters()])
    return found


def everything() -> dict[str, Any]:
    return {f.__name__: f() for f in (told, alike, bounded_on_one_rank)}
