"""Steps per second of simulated workers, one after another or all at once: `python benchmarks/simulation.py`.

The digits and the 64-128-10 net, full local batches. Both modes are run on the same data and must agree before a figure
is printed; `round` is the exchange (encode, bytes, vote, decode), which is the same for both.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gradvote.lab.train import Config, Run, start


def begun(mode: str, options: argparse.Namespace, folder: str) -> Run:
    """A run at its first step."""
    shared: dict[str, Any] = {"workers": options.workers, "partition": "iid", "batch_size": options.batch_size}
    return start(Config(options.algorithm, mode=mode, **shared), Path(folder) / mode)


def gradients(run: Run) -> Any:
    """The gradients of a step."""
    return run.observer.gradients(run.observer.batches(run.step), run.step)


def fastest(work: Callable[[], object], seconds: float) -> float:
    """The shortest of the times of repeated calls, after one to warm up."""
    work()
    times, deadline = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < deadline:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def measure(options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Seconds of gradients and of the round, by mode."""
    found = {}
    with TemporaryDirectory() as folder:
        runs = {mode: begun(mode, options, folder) for mode in ("loop", "vectorized")}
        for one, other in zip(*(gradients(run) for run in runs.values()), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        for mode, run in runs.items():
            known = gradients(run)
            times = [fastest(lambda run=run: gradients(run), options.seconds)]
            times.append(fastest(lambda run=run, known=known: run._round(known), options.seconds))
            found[mode] = (times[0], times[1])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--algorithm", default="signsgd")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = measure(options)
    print(f"{options.workers} workers, {options.algorithm}, {options.threads} threads, torch {torch.__version__}")
    for mode, (gradient, rest) in results.items():
        rate = 1 / (gradient + rest)
        print(f"{mode:10}  {rate:7.2f} steps/s   gradients {gradient * 1e3:8.1f} ms   round {rest * 1e3:7.1f} ms")
    whole = [sum(times) for times in results.values()]
    print(
        f"vectorized is {whole[0] / whole[1]:.1f} times as fast; its gradients alone "
        f"{results['loop'][0] / results['vectorized'][0]:.1f} times"
    )
