"""A real worker process of the tests that takes several steps of its own to a round."""

import time
from typing import Any

import torch
from torch import nn

from gradvote import algorithms, local_steps
from gradvote.elastic import Timeouts


def train(write: Any, batch: Any, digest: Any, model: nn.Module, store: str, worker: int, steps: int, o: Any) -> None:
    """Rounds of `o["every"]` steps; a line after each, and how many steps the inner optimizer has taken at the end."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    times = Timeouts(o["deadline"], 0.2, 5.0, o["timeout"])
    local = local_steps.attach(
        model, optimizer, algorithms.dist_ef_sgdm(), every=o["every"], outer=_outer, engine="elastic", timeouts=times,
        min_workers=o["min_workers"], worker=worker, workers=o["workers"], store=store,
    )  # fmt: skip
    with local:
        write({"joined": local.vote.step_number})
        for _ in local.vote.steps(steps):
            for _ in range(local.left):
                optimizer.zero_grad()
                x, y = batch(worker, local.vote.step_number)
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                time.sleep(o.get("pace", 0.01) / o["every"])
                local.step()
            write({"step": local.vote.step_number, "digest": digest(model), "at": time.monotonic()})
    write({"inner": int(next(iter(optimizer.state.values()))["step"])})


def _outer(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True)
