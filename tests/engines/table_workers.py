"""What the spawned ranks of `test_tables.py` run: tables of embeddings of which each rank touches a few rows."""

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.distributed import Exchange

COLUMNS, ROWS, STEPS = (3, 16, 48, 64, 100, 128), 200, 3
RECIPES = {name: algorithms.create(name) for name in ("signsgd", "signum", "lion")}
RECIPES["signsgd, blocks that cut rows"] = replace(RECIPES["signsgd"], block_size=1000)


class Tables(nn.Module):
    """One table for each number of columns."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(ROWS, columns, mode="sum") for columns in COLUMNS)

    def forward(self, tokens: Tensor) -> Tensor:
        return sum((table(tokens).square().sum() for table in self.tables), torch.zeros(()))


def tables() -> Tables:
    torch.manual_seed(0)
    return Tables()


def tokens(rank: int) -> Tensor:
    """The rows that a rank touches; row 100 is everybody's."""
    return torch.tensor([[10 * rank, 10 * rank + 1, 100]])


def train(engine: str, algorithm: Algorithm) -> list[Tensor]:
    """The tables after some steps."""
    model = tables()
    net: nn.Module = model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    if engine == "ddp":
        net = DistributedDataParallel(model, bucket_cap_mb=0.05)
        gradvote.ddp.attach(net, algorithm, optimizer=optimizer, timeout=60)
    else:
        options: dict[str, Any] = {"placement": engine, "chunks": 3, "optimizer": optimizer, "timeout": 60}
        exchange = Exchange(model.named_parameters(), algorithm, **options)
    for _ in range(STEPS):
        optimizer.zero_grad()
        net(tokens(dist.get_rank())).backward()
        if engine != "ddp":
            exchange.step()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def everything() -> dict[tuple[str, str], list[Tensor]]:
    """By recipe and engine."""
    return {
        (name, engine): train(engine, algorithm)
        for name, algorithm in RECIPES.items()
        for engine in ("ddp", "sharded", "replicated")
    }
