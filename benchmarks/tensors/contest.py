"""Contestants in processes of their own, which take turns."""

import argparse
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tensors.models import shapes_of

HERE = Path(__file__).resolve().parents[1]
ALL_REDUCE = "all-reduce"


@dataclass(frozen=True)
class Row:
    """Median milliseconds of a step and, pair by pair, of its ratio to the all-reduce and to the other checkout."""

    shapes: str
    tensors: int
    distinct: int
    coordinates: int
    name: str
    ms: float
    of_all_reduce: float
    beside_ms: float | None
    of_beside: float | None


class Contestant:
    """The ranks of one contestant, each a process that makes steps when told to."""

    def __init__(self, name: str, shapes: str, ranks: int, root: Path, port: int) -> None:
        env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
        env |= {"MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
        self._ranks = [
            subprocess.Popen(
                [sys.executable, str(HERE / "shapes.py"), "--inside", name, "--shapes", shapes],
                env={**env, "RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
            )
            for rank in range(ranks)
        ]

    def ready(self) -> None:
        """Wait until all have made their first steps."""
        for rank in self._ranks:
            assert rank.stdout is not None
            if rank.stdout.readline() != "ready\n":
                raise RuntimeError(f"A rank ended with exit code {rank.wait(60)}; what it says stands above.")

    def steps(self, count: int) -> float:
        """The slowest rank's median seconds of some steps."""
        for rank in self._ranks:
            assert rank.stdin is not None
            rank.stdin.write(f"{count}\n")
            rank.stdin.flush()
        return max(float(rank.stdout.readline()) for rank in self._ranks if rank.stdout is not None)

    def end(self) -> None:
        """Let all ranks end."""
        for rank in self._ranks:
            assert rank.stdin is not None
            rank.stdin.close()
        for rank in self._ranks:
            rank.wait(60)


def measured(shapes: str, options: argparse.Namespace) -> Iterator[Row]:
    """The rows of one list of shapes, one algorithm after another."""
    own = HERE.parent
    numels = [math.prod(shape) for shape in shapes_of(shapes)]
    for name in options.names:
        roots = [own] if options.beside is None else [own, options.beside]
        group = [Contestant(ALL_REDUCE, shapes, options.ranks, own, options.port)]
        group += [Contestant(name, shapes, options.ranks, root, options.port + 1 + i) for i, root in enumerate(roots)]
        for contestant in group:
            contestant.ready()
        times = [[c.steps(options.steps) for c in group] for _ in range(options.rounds)]
        for contestant in group:
            contestant.end()
        beside = [row[2] for row in times] if options.beside is not None else None
        yield Row(
            shapes,
            len(numels),
            len(set(numels)),
            sum(numels),
            name,
            1e3 * statistics.median(row[1] for row in times),
            statistics.median(row[1] / row[0] for row in times),
            None if beside is None else 1e3 * statistics.median(beside),
            None if beside is None else statistics.median(row[1] / row[2] for row in times),
        )
