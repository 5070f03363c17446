"""What users write, in all its forms: `mypy --strict` finds nothing here. Read by tests/test_types.py, never run."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote.algorithms import dropsignsgd, signum
from gradvote.core import Algorithm, Codec
from gradvote.faults import Faulty, Invert


def behind_ddp(model: nn.Module) -> gradvote.ddp.Vote:
    algorithm = gradvote.algorithms.noisy(gradvote.algorithms.signsgd(), noise_std=0.01)
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=gradvote.suggest_lr(optimizer, algorithm))
    vote = gradvote.ddp.attach(ddp, signum(beta=0.9), optimizer=[optimizer], placement="replicated", max_norm=1.0)
    vote.load_state_dict(vote.state_dict())
    gradvote.ddp.average_statistics(ddp)
    return vote


def in_a_loop_of_ones_own(model: nn.Module, scaler: torch.amp.GradScaler) -> int:
    exchange = gradvote.distributed.Exchange(model.named_parameters(), gradvote.algorithms.signum(beta=0.9), seed=3)
    exchange.step()
    report = gradvote.metrics.reporter(Path("gradvote.prom"), run="a")
    report(exchange.stats())
    states = gradvote.distributed.resize([exchange.state_dict()], 2)
    gradvote.distributed.Exchange(model.parameters(), dropsignsgd(keep_up=0.3), scaler=scaler, placement="central")
    return len(states)


def elastic(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor) -> float:
    loss = torch.zeros(())
    faults = [Faulty(Invert(), workers=(1,)), gradvote.faults.Faulty(gradvote.faults.Rescale(2.0))]
    with gradvote.elastic.attach(model, optimizer, gradvote.algorithms.lion(), min_workers=2, faults=faults) as vote:
        for step in vote.steps(10):
            optimizer.zero_grad()
            loss = model(batch).sum() * step
            loss.backward()
            vote.step()
    return float(loss)


def an_algorithm_of_ones_own(trim: int = 1) -> Algorithm:
    up: Codec = gradvote.codecs.chain(gradvote.transforms.Ema(0.9), gradvote.codecs.Sign())
    return Algorithm(up, gradvote.aggregators.TrimmedMean(trim), gradvote.codecs.Dense())


def simulated() -> list[str]:
    config = gradvote.lab.train.Config(algorithm="signum", steps=3, partition="dirichlet")
    parts = gradvote.lab.data.Dirichlet(alpha=0.1)(torch.zeros(10, dtype=torch.int64), 2, config.seed)
    made = gradvote.algorithms.create("noisy-signum", noise_std=0.1)
    b = gradvote.theory.suggest_noise(torch.zeros(5, 10))
    return [*gradvote.algorithms.names(), repr(made), f"{b} {len(parts)} {gradvote.__version__}"]
