"""Which files of gradvote a gradient goes through on its way to the optimizer: one step in steady state, counted.

    python scripts/walk.py [--algorithm dist-ef-sgdm] [exchange] [replicated] [sharded]

Counted are files whose functions run in any thread between the call of `step()` and its return, with three workers. A
file *carries* the gradient where one of these functions is given it, or gives it back, in whatever form: a tensor, a
payload, a ballot, a frame, a decision. A parameter is not its gradient: what lies in the memory of the model's own
values does not count. The others look after the run. What runs once (imports, compiling kernels, the first steps) does
not count, either.
"""

import argparse
import contextlib
import io
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import is_dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import HashStore

import gradvote
from gradvote.core import Algorithm
from gradvote.engines.launch import spawn

ROOT = Path(gradvote.__file__).parent
WORKERS, STEADY = 3, 3
LEAST = 100
"""Bytes: the packed signs of the model below are more, what is said about them is less."""
Found = tuple[set[str], set[str]]
AT_MOST = {"exchange": 25, "replicated": 28, "sharded": 28}


class Walk:
    """Notes files while it is `on`, in this thread and in all that are started afterwards.

    `models` are those whose gradients are followed.
    """

    def __init__(self, models: Iterable[nn.Module]) -> None:
        self._values = [(p.data_ptr(), p.data_ptr() + p.nbytes) for model in models for p in model.parameters()]
        self.on, self.files, self.carriers = False, set[str](), set[str]()
        threading.setprofile(self._seen)
        sys.setprofile(self._seen)

    def _seen(self, frame: FrameType, event: str, arg: object) -> None:
        path = Path(frame.f_code.co_filename)
        if not self.on or event not in ("call", "return") or not path.is_relative_to(ROOT):
            return
        name = str(path.relative_to(ROOT))
        self.files.add(name)
        given = [value for key, value in frame.f_locals.items() if key != "self"] if event == "call" else [arg]
        if name not in self.carriers and any(map(self._holds_data, given)):
            self.carriers.add(name)

    def _holds_data(self, value: object, depth: int = 3) -> bool:
        """Whether this is, or has in it, as much as a gradient: in numbers, bits or bytes."""
        if isinstance(value, Tensor):
            return value.nbytes >= LEAST and not self._is_value(value.data_ptr())
        if isinstance(value, bytes | bytearray | memoryview):
            return len(value) >= LEAST and not self._is_value(np.frombuffer(value, np.uint8).ctypes.data)
        if not depth:
            return False
        if isinstance(value, Mapping):
            return any(self._holds_data(own, depth - 1) for own in value.values())
        if isinstance(value, list | tuple):
            return any(self._holds_data(own, depth - 1) for own in value)
        return is_dataclass(value) and any(self._holds_data(own, depth - 1) for own in vars(value).values())

    def _is_value(self, address: int) -> bool:
        """Whether there is a parameter: it, a view of it, or its bytes."""
        return any(begin <= address < end for begin, end in self._values)


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


def by_exchange(algorithm: Algorithm) -> Found:
    """The files of a step of `Exchange`, as rank 0 sees them."""
    import torch.distributed as dist  # noqa: PLC0415  # in the rank's process

    model, optimizer, backward = work(dist.get_rank())
    walk = Walk([model])
    exchange = gradvote.distributed.Exchange(
        model.named_parameters(), algorithm, optimizer=optimizer, placement="sharded"
    )
    for step in range(STEADY + 1):
        backward(step)
        walk.on = step == STEADY
        exchange.step()
        walk.on = False
        optimizer.step()
    return walk.files, walk.carriers


def by_elastic(algorithm: Algorithm, placement: str) -> Found:
    """The files of a step of an elastic run whose workers are threads: what any of them calls."""
    store, together = HashStore(), threading.Barrier(WORKERS, timeout=60)
    works = [work(worker) for worker in range(WORKERS)]  # one after the other: threads share the seed of their process
    walk = Walk(model for model, _, _ in works)

    def run(worker: int) -> None:
        model, optimizer, backward = works[worker]
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
    return walk.files, walk.carriers


def walk_of(way: str, algorithm: Algorithm) -> Found:
    """The files of one way, and those among them that carry the gradient."""
    return spawn(by_exchange, WORKERS, algorithm)[0] if way == "exchange" else by_elastic(algorithm, way)


def main() -> None:
    """Print the walks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "ways", nargs="*", default=list(AT_MOST), help="exchange, replicated or sharded; all by default"
    )
    parser.add_argument("--algorithm", default="signsgd")
    arguments = parser.parse_args()
    algorithm = gradvote.algorithms.create(arguments.algorithm)
    for way in arguments.ways:
        files, carriers = walk_of(way, algorithm)
        kernels = {name for name in carriers if name.startswith("kernels/cpu")}
        carry = f"{len(carriers)} carry the gradient ({len(kernels)} kernels, {len(carriers - kernels)} others)"
        print(f"{way}: {len(files)} files, of which {carry}; the aim is {AT_MOST[way]}")
        print(*(f"    {'*' if name in carriers else ' '} {name}" for name in sorted(files)), sep="\n")


if __name__ == "__main__":
    main()
