"""What the tests of all trainers share: a tiny model and data, and what a rank says of itself."""

import os
import socket
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradvote import algorithms
from gradvote.core import Algorithm

STEPS, HALF, BATCH, CLIP, LR = 6, 3, 4, 0.05, 0.05


def algorithm() -> Algorithm:
    """One with a momentum and memories on both sides, to which the length of a gradient matters."""
    return algorithms.dist_ef_sgdm()


class Net(nn.Module):
    """Returns what Hugging Face's Trainer asks for."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        middle: list[nn.Module] = [nn.BatchNorm1d(8)] if norm else []
        self.net = nn.Sequential(nn.Linear(6, 8), *middle, nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def samples(count: int = 64) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 6, generator=generator)
    labels = (x[:, :3] + 0.3 * torch.randn(count, 3, generator=generator)).argmax(-1)
    return [{"x": own, "labels": label} for own, label in zip(x, labels, strict=True)]


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


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


def free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def as_torchrun(port: int) -> None:
    """What trainers look for beside what `spawn` sets."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), LOCAL_WORLD_SIZE="2", CUDA_VISIBLE_DEVICES="")
