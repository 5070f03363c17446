"""Which files of gradvote a gradient goes through on its way to the optimizer: one step in steady state, counted.

    python scripts/walk.py [--algorithm dist-ef-sgdm] [exchange] [replicated] [sharded]

A file counts when one of its functions runs in any thread between the call of `step()` and its return, on worker 0.
What runs once (imports, compiling kernels, the first steps) does not count.
"""

import argparse
import contextlib
import io
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import torch
from torch import nn
from torch.distributed import HashStore

import gradvote
from gradvote.core import Algorithm
from gradvote.engines.launch import spawn

ROOT = Path(gradvote.__file__).parent
WORKERS, STEADY = 3, 3
AT_MOST = {"exchange": 25, "replicated": 28, "sharded": 28}


class Walk:
    """The files whose functions are called while it is `on`, in this thread and in all that are started afterwards."""

    def __init__(self) -> None:
        self.on, self.files = False, set[str]()
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    def _called(self, frame: FrameType, event: str, arg: object) -> None:
        if self.on and event == "call":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT):
                self.files.add(str(path.relative_to(ROOT)))


def work(worker: int) -> tuple[nn.Module, torch.optim.Optimizer, Callable[[int], None]]:
    """A model, its optimizer, and what sets its gradients before a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def backward(step: int) -> None:
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(1000 * step + worker)
        model(torch.randn(16, 64, generator=generator)).square().mean().backward()

    return model, optimizer, backward


def by_exchange(algorithm: Algorithm) -> set[str]:
    """The files of a step of `Exchange`, as rank 0 sees them."""
    import torch.distributed as dist  # noqa: PLC0415  # in the rank's process

    walk, rank = Walk(), dist.get_rank()
    model, optimizer, backward = work(rank)
    exchange = gradvote.distributed.Exchange(
        model.named_parameters(), algorithm, optimizer=optimizer, placement="sharded"
    )
    for step in range(STEADY + 1):
        backward(step)
        walk.on = step == STEADY
        exchange.step()
        walk.on = False
        optimizer.step()
    return walk.files


def by_elastic(algorithm: Algorithm, placement: str) -> set[str]:
    """The files of a step of an elastic run whose workers are threads: what any of them calls."""
    store, together = HashStore(), threading.Barrier(WORKERS, timeout=60)
    walk = Walk()

    def run(worker: int) -> None:
        model, optimizer, backward = work(worker)
        vote = gradvote.elastic.attach(
            model, optimizer, algorithm, min_workers=WORKERS, worker=worker, workers=WORKERS, store=store,
            timeouts=gradvote.elastic.Timeouts(60.0, 20.0, 60.0, 120.0), placement=placement,
        )  # fmt: skip
        with vote:
            for step in range(STEADY + 1):
                backward(step)
                together.wait()
                if step == STEADY:
                    time.sleep(0.5)  # whatever follows from the step before is done
                    walk.on = True
                    together.wait()
                vote.step()
                together.wait()
                walk.on = False

    with contextlib.redirect_stderr(io.StringIO()), ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(run, range(WORKERS)))
    return walk.files


def files_of(way: str, algorithm: Algorithm) -> list[str]:
    """The files of one way, in order."""
    if way == "exchange":
        return sorted(spawn(by_exchange, WORKERS, algorithm)[0])
    return sorted(by_elastic(algorithm, way))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "ways", nargs="*", default=list(AT_MOST), help="exchange, replicated or sharded; all by default"
    )
    parser.add_argument("--algorithm", default="signsgd")
    arguments = parser.parse_args()
    algorithm, over = gradvote.algorithms.create(arguments.algorithm), 0
    for way in arguments.ways:
        files = files_of(way, algorithm)
        over += len(files) > AT_MOST[way]
        print(f"{way}: {len(files)} files (at most {AT_MOST[way]})", *(f"    {file}" for file in files), sep="\n")
    return over


if __name__ == "__main__":
    sys.exit(main())
