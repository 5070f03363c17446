"""Seconds of training to a stated accuracy on MNIST, by way of exchanging gradients. Used by `scripts/bench-accuracy`.

    python benchmarks/time_to_accuracy.py tune --out tuned.json        the learning rate of each, here and without links
    scripts/with-links 100mbit python benchmarks/time_to_accuracy.py race --tuned tuned.json --out race.json

The network is that of McMahan et al. 2017 (1.66M parameters), the data are split at random, and every contestant has
the same start, the same batches and the same grid of learning rates. The rate with the fewest steps to the accuracy
runs the race, from several starts, as where exactly an accuracy is first passed is a matter of luck. SGD has momentum
0.9 behind means; the votes have theirs, if any, in the algorithm. Neither evaluation nor the first steps of a
contestant, which load its kernels, are timed.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import cache
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.launch import spawn
from gradvote.lab.data import Data, load

GRID = [0.03, 0.001, 0.1, 0.003, 0.01, 0.0003]
MEANS = ("fp32", "fp16", "power-sgd")
VOTES: dict[str, Callable[[], Algorithm]] = {
    "signsgd": algorithms.signsgd,
    "signum": algorithms.signum,
    "dropsignsgd": algorithms.dropsignsgd,
}
OWN_LOOP = " in a loop"
"""What marks a vote by `gradvote.distributed.Exchange` instead of DDP; it races with the same rate."""
RANKS, BATCH, EVERY, TEST, MOMENTUM = 4, 8, 5, 1000, 0.9
TARGET, MOST, WARM_UP, STARTS = 0.85, 100, 4, 3


@cache
def mnist() -> Data:
    """The data, read once."""
    return load("mnist")


def network(start: int) -> nn.Module:
    """The same start on all ranks and for all contestants."""
    torch.manual_seed(start)
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def contestant(name: str, lr: float, start: int) -> tuple[nn.Module, Callable[[int], None]]:
    """A model and its training step."""
    net, exchange = network(start), None
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum=MOMENTUM if name in MEANS else 0.0)
    if name.endswith(OWN_LOOP):
        vote = VOTES[name.removesuffix(OWN_LOOP)]()
        model, exchange = net, gradvote.distributed.Exchange(net.parameters(), vote, optimizer=optimizer)
    else:
        model = with_ddp(name, net, optimizer)
    order = torch.randperm(len(mnist().train_y), generator=torch.Generator().manual_seed(1 + start))
    order = order[dist.get_rank() :: RANKS]

    def step(k: int) -> None:
        chosen = order[(torch.arange(BATCH) + k * BATCH) % len(order)]
        optimizer.zero_grad()
        cross_entropy(model(mnist().train_x[chosen]), mnist().train_y[chosen]).backward()
        if exchange is not None:
            exchange.step()
        optimizer.step()

    return model, step


def with_ddp(name: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> DistributedDataParallel:
    """The model in DDP, which exchanges gradients in the way of this name."""
    ddp = DistributedDataParallel(model, bucket_cap_mb=100 if name == "power-sgd" else None)  # more buckets hang it
    if name == "fp16":
        ddp.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif name == "power-sgd":
        state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=2)
        ddp.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    elif name in VOTES:
        gradvote.ddp.attach(ddp, VOTES[name](), optimizer=optimizer)
    return ddp


def accuracy(model: nn.Module) -> float:
    """On the first test images, a share of them on each rank."""
    own = slice(dist.get_rank(), TEST, RANKS)
    with torch.no_grad():
        right = (model(mnist().test_x[own]).argmax(1) == mnist().test_y[own]).sum()
    dist.all_reduce(right)
    return float(right) / TEST


def until(name: str, lr: float, target: float, most: int, start: int = 0) -> dict[str, Any]:
    """Training until the accuracy is reached, or for `most` steps: steps, seconds, accuracy."""
    model, step = contestant(name, lr, start)
    seconds, found = 0.0, 0.0
    for k in range(1, most + 1):
        dist.barrier()
        began = time.perf_counter()
        step(k)
        seconds += time.perf_counter() - began
        if k % EVERY == 0:
            found = accuracy(model)
            if found >= target:
                break
    return {"name": name, "lr": lr, "steps": k, "seconds": seconds, "accuracy": found, "reached": found >= target}


def tune(target: float, most: int) -> list[dict[str, Any]]:
    """For each contestant the run of the grid with the fewest steps; no run goes on beyond the best so far."""
    best = []
    for name in (*MEANS, *VOTES):
        runs, limit = [], most
        for lr in GRID:
            runs.append(until(name, lr, target, limit))
            limit = min(limit, runs[-1]["steps"]) if runs[-1]["reached"] else limit
        best.append(min(runs, key=lambda run: (not run["reached"], run["steps"], -run["accuracy"])))
        if dist.get_rank() == 0:
            print(
                f"{name:16} rate {best[-1]['lr']:g}: {best[-1]['accuracy']:.1%} in {best[-1]['steps']} steps",
                flush=True,
            )
    return best


def race(tuned: list[dict[str, Any]], target: float, most: int) -> list[dict[str, Any]]:
    """Every contestant with its rate, from each start; the slowest rank's seconds, after a warm-up."""
    results = []
    for entry in [*tuned, *({**entry, "name": entry["name"] + OWN_LOOP} for entry in tuned if entry["name"] in VOTES)]:
        until(entry["name"], entry["lr"], target, WARM_UP)
        for start in range(STARTS):
            result = until(entry["name"], entry["lr"], target, most, start)
            worst = torch.tensor(result["seconds"])
            dist.all_reduce(worst, dist.ReduceOp.MAX)
            results.append({**result, "start": start, "seconds": float(worst)})
    return results


def table(results: list[dict[str, Any]], target: float) -> str:
    """What was found, the fastest first, against fp32; a contestant that never reached the accuracy stands last."""
    runs = {name: [r for r in results if r["name"] == name] for name in dict.fromkeys(r["name"] for r in results)}
    took = {name: median(r["seconds"] if r["reached"] else inf for r in own) for name, own in runs.items()}
    lines = [f"{'':22}{'rate':>8}{'ms/step':>9}{'seconds':>9}{'fp32':>8}   steps to {target:.0%} of {TEST}, by start"]
    for name, own in sorted(runs.items(), key=lambda pair: took[pair[0]]):
        per_step = 1e3 * sum(r["seconds"] for r in own) / sum(r["steps"] for r in own)
        steps = ", ".join(str(r["steps"]) if r["reached"] else f"> {r['steps']} ({r['accuracy']:.1%})" for r in own)
        figures = f"{own[0]['lr']:>8g}{per_step:>9.1f}{took[name]:>9.2f}{took['fp32'] / took[name]:>7.1f}x"
        lines.append(f"{name:22}{figures}   {steps}")
    return "\n".join(lines)


def joined(tuned: list[dict[str, Any]], target: float, most: int) -> list[dict[str, Any]]:
    """The race between the hosts that the environment names."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    results = race(tuned, target, most)
    dist.barrier()
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "race"])
    parser.add_argument("--target", type=float, default=TARGET)
    parser.add_argument("--most", type=int, default=MOST, help="steps after which a learning rate is given up")
    parser.add_argument("--tuned", type=Path, help="what `tune` wrote")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.what == "tune":
        found = spawn(tune, RANKS, options.target, options.most)[0]
    else:
        found = joined(json.loads(options.tuned.read_text(encoding="utf-8")), options.target, options.most)
    if int(os.environ.get("RANK", "0")) == 0:
        if options.what == "race":
            print(table(found, options.target))
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
