"""What the tests of all trainers share: a tiny model and data, and what a rank says of itself."""

import importlib
import importlib.util
import inspect
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.ddp import DDPVote
from gradvote.engines.launch import spawn

STEPS, HALF, BATCH, CLIP, LR, TWICE = 6, 3, 4, 0.05, 0.05, 2


def algorithm() -> Algorithm:
    """One with a momentum and memories on both sides, to which the length of a gradient matters."""
    return algorithms.dist_ef_sgdm()


class Net(nn.Module):
    """Returns what Hugging Face's Trainer asks for. With `norm` its first 13 numbers are running statistics."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        first: list[nn.Module] = [nn.BatchNorm1d(6, affine=False)] if norm else []
        self.net = nn.Sequential(*first, nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def samples(count: int = 64) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 6, generator=generator)
    labels = (x[:, :3] + 0.3 * torch.randn(count, 3, generator=generator)).argmax(-1)
    return [{"x": own, "labels": label} for own, label in zip(x, labels, strict=True)]


def batch(rank: int, number: int) -> tuple[Tensor, Tensor]:
    """Another one for each rank and call."""
    generator = torch.Generator().manual_seed(100 * number + rank)
    x = torch.randn(BATCH, 6, generator=generator)
    return x, x[:, :3].argmax(-1)


def flat(model: nn.Module) -> Tensor:
    """Parameters and running statistics."""
    return torch.cat([t.detach().flatten().float() for t in model.state_dict().values()]).clone()


def counts(vote: DDPVote) -> tuple[int, int]:
    """Votes of one rank, and abstentions that it heard of."""
    stats = vote.stats()
    return stats.steps, sum(stats.abstentions)


def with_warnings(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in seen if issubclass(w.category, UserWarning)]


def refusal(call: Callable[[], Any]) -> str:
    """The sentence with which a call is refused."""
    try:
        call()
    except (ValueError, RuntimeError, TypeError) as error:
        return str(error)
    return "not refused"


def outcomes(name: str, needs: str, place: str) -> list[Any]:
    """What the two ranks of `NAME_worker.everything` found, or a skip where the trainer cannot be imported."""
    if importlib.util.find_spec(needs.partition(".")[0]) is None:
        pytest.skip(f"{needs} is not installed")
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port = int(own.getsockname()[1])
    found = spawn(_everything, 2, name, needs, port, place)
    if isinstance(found[0], str):
        pytest.skip(found[0])
    return found


def _everything(name: str, needs: str, port: int, place: str) -> Any:
    """In a process of its own only, as a trainer is long to import. `port` is for what trainers look for."""
    own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ.update(own, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    try:
        importlib.import_module(needs)
    except Exception as error:  # whatever an installation that does not fit together makes of it
        return f"{needs} cannot be imported: {error}"
    found: dict[str, Any] = importlib.import_module(f"tests.integrations.{name}_worker").everything(Path(place))
    return {**found, "untold": untold(importlib.import_module(f"gradvote.integrations.{name}"))}


def untold(module: Any) -> list[str]:
    """What a module exports without saying what it is, or of which type something is."""
    found = [] if module.__doc__ else [module.__name__]
    for name in module.__all__:
        own = getattr(module, name)
        parts = {name: own, **{f"{name}.{key}": part for key, part in vars(own).items() if inspect.isfunction(part)}}
        for label, part in parts.items():
            hinted = get_type_hints(part if inspect.isfunction(part) else part.__init__)
            asked = inspect.signature(part).parameters.keys() - {"self"}
            told = inspect.getdoc(part) or label.rpartition(".")[2].startswith("_")
            found += [] if told and asked <= hinted.keys() and "return" in hinted else [label]
    return found
