"""Seconds that compiling, and then loading, the kernels of the demo takes, in a process of its own each.

    python benchmarks/first_call.py [--repeats 3]

Cold is with an empty folder for compiled code, warm with the one that the cold run has filled. Two steps of every run
of the demo are taken; what numba spends on the first call of each kernel is counted, its own start-up included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from numba.core.dispatcher import Dispatcher

from gradvote.lab.cli.demo import FAULTS, FIRST, SECOND
from gradvote.lab.train import Config, start

INSIDE = "GRADVOTE_BENCHMARK_INSIDE"


class Stopwatch:
    """Wraps numba's compilation; calls from within it are not counted twice. Wall clock and processor time."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self.kernels = self._depth = 0

    def around(self, compiling: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            self._depth += 1
            wall, processor = time.perf_counter(), time.process_time()
            try:
                return compiling(*arguments)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.kernels += 1
                    self.wall += time.perf_counter() - wall
                    self.processor += time.process_time() - processor

        return timed


def first_calls() -> Stopwatch:
    """Two steps of each run of the demo."""
    torch.set_num_threads(1)
    watch = Stopwatch()
    Dispatcher.compile = watch.around(Dispatcher.compile)
    with tempfile.TemporaryDirectory() as folder:
        for scene, partition, faults in ((FIRST, "by-class", ()), (SECOND, "iid", FAULTS)):
            for name, options in scene.items():
                own = Config(algorithm=name, steps=2, partition=partition, workers=5, faults=faults, **options)
                start(own, Path(folder) / f"{partition}-{name}").train()
    return watch


def in_a_process(cache: str) -> dict[str, float]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, INSIDE: "1"}
    done = subprocess.run([sys.executable, *sys.argv], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    if INSIDE in os.environ:
        print(json.dumps(vars(first_calls())))
        return
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for how in ("cold", "warm"):
                found = in_a_process(cache)
                seconds = f"{found['wall']:.2f} s, of the processor {found['processor']:.2f} s"
                print(f"{repeat + 1}, {how}: {found['kernels']} kernels, {seconds}", flush=True)


if __name__ == "__main__":
    main()
