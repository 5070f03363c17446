"""The elastic engine's placements side by side: bytes that a worker sends in a step, and how long a step takes.

    python benchmarks/elastic_placements.py [--workers 3 5 8] [--params 1000000] [--algorithm signsgd] [--steps 20]

All workers are processes on this machine, connected by loopback; their parameters are compared before anything is
printed. On loopback bytes cost next to nothing: the second round of messages of `sharded` shows, its savings do not.
"""

import argparse
import hashlib
import statistics
import time
from multiprocessing import get_context
from multiprocessing.queues import Queue

import torch
from torch import nn
from torch.distributed import TCPStore

from gradvote import algorithms, elastic

WARM_UP = 5


def digest(model: nn.Module) -> str:
    """A name of the parameters."""
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    return hashlib.blake2b(flat.numpy().tobytes(), digest_size=16).hexdigest()


def work(port: int, worker: int, args: argparse.Namespace, workers: int, placement: str, results: Queue) -> None:
    """One worker: gradients are drawn, so that a step is all vote."""
    torch.set_num_threads(1)
    width = round(args.params**0.5)
    model = nn.Linear(width, width, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    generator = torch.Generator().manual_seed(worker)
    vote = elastic.attach(
        model, optimizer, algorithms.create(args.algorithm), min_workers=workers, worker=worker, workers=workers,
        store=f"127.0.0.1:{port}", deadline=30.0, placement=placement,
    )  # fmt: skip
    seconds, sent = [], 0
    with vote:
        for step in vote.steps(WARM_UP + args.steps):
            if step == WARM_UP:
                sent = vote.stats().bytes_sent
            model.weight.grad = torch.randn(width, width, generator=generator)
            start = time.perf_counter()
            vote.step()
            seconds.append(time.perf_counter() - start)
        sent = (vote.stats().bytes_sent - sent) // args.steps
    results.put((worker, sent, statistics.median(seconds[WARM_UP:]), digest(model)))


def measure(args: argparse.Namespace, workers: int, placement: str) -> tuple[float, float]:
    """The mean of bytes sent, and the median step of the slowest worker."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    spawn = get_context("spawn")
    results = spawn.Queue()
    crew = [
        spawn.Process(target=work, args=(store.port, worker, args, workers, placement, results), daemon=True)
        for worker in range(workers)
    ]
    for process in crew:
        process.start()
    found = [results.get(timeout=300) for _ in crew]
    for process in crew:
        process.join()
    if len({name for *_, name in found}) > 1:
        raise SystemExit(f"The workers' parameters differ: {found}")
    return statistics.mean(sent for _, sent, *_ in found), max(seconds for _, _, seconds, *_ in found)


def main() -> None:
    """Print a line for each number of workers and placement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[3, 5, 8])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--algorithm", default="signsgd")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    print(f"{args.algorithm}, {round(args.params**0.5) ** 2:,} parameters, {args.steps} steps")
    print(f"{'workers':>7}  {'placement':<10}  {'kB sent':>9}  {'bits each':>9}  {'ms a step':>9}")
    for workers in args.workers:
        for placement in elastic.PLACEMENTS:
            sent, seconds = measure(args, workers, placement)
            bits = 8 * sent / args.params
            print(
                f"{workers:>7}  {placement:<10}  {sent / 1000:>9.1f}  {bits:>9.2f}  {1000 * seconds:>9.1f}", flush=True
            )


if __name__ == "__main__":
    main()
