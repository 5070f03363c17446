"""What a tensor costs: the time of a step over the number of distinct sizes, and for the shapes of known models.

    python benchmarks/shapes.py [--shapes sizes:2000 mobile] [--names signsgd dropsignsgd] [--beside CHECKOUT]

For each shape an fp32 all-reduce of one flat vector and each algorithm run in `--ranks` processes of their own on this
machine, over loopback, with one thread each; with `--beside` also the algorithm as another checkout of the repository
has it. They take turns, a few steps each, so that a busy machine slows all of them: the medians of the ratios say more
than the times. `--out FILE.jsonl` keeps what was measured, `--plot FILE.svg` draws it. The first steps, in which the
number of chunks is tried out, do not count.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
NAMES = ("signsgd", "signum", "noisy-signsgd", "dist-ef-sgdm", "dropsignsgd")
DEFAULT = (*(f"sizes:{n}" for n in (1, 10, 100, 500, 2000)), "resnet50", "mobile", "lora", "gpt2")
WARM_UP = 11
ALL_REDUCE = "all-reduce"

Shape = tuple[int, ...]


def sizes(distinct: int, tensors: int = 2000, mean: int = 1500) -> list[Shape]:
    """So many vectors of about `mean` coordinates, with so many distinct lengths."""
    return [(mean - distinct // 2 + i % distinct,) for i in range(tensors)]


def resnet50() -> list[Shape]:
    """He et al. 2016: 161 tensors, 25.6M."""
    found, fan_in = [*_conv(64, 3, 7)], 64
    for stage, (count, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
        for i in range(count):
            found += [*_conv(width, fan_in, 1), *_conv(width, width, 3), *_conv(4 * width, width, 1)]
            found += _conv(4 * width, fan_in, 1) if i == 0 else []
            fan_in = 4 * width
        assert stage < 4
    return [*found, (1000, fan_in), (1000,)]


def mobile() -> list[Shape]:
    """EfficientNet-B4 (Tan, Le 2019), inverted bottlenecks with squeeze and excitation: 418 tensors, 19.3M."""
    found, fan_in = [*_conv(48, 3, 3)], 48
    widths, depths, kernels = (24, 32, 56, 112, 160, 272, 448), (2, 4, 4, 6, 6, 8, 2), (3, 3, 5, 3, 5, 5, 3)
    for stage, (out, depth, kernel) in enumerate(zip(widths, depths, kernels, strict=True)):
        for _ in range(depth):
            wide, squeezed = fan_in * (6 if stage else 1), max(fan_in // 4, 1)
            found += _conv(wide, fan_in, 1) if stage else []
            found += [*_conv(wide, 1, kernel), (squeezed, wide, 1, 1), (squeezed,), (wide, squeezed, 1, 1), (wide,)]
            found += _conv(out, wide, 1)
            fan_in = out
    return [*found, *_conv(1792, fan_in, 1), (1000, 1792), (1000,)]


def gpt2() -> list[Shape]:
    """Radford et al. 2019, the smallest: 148 tensors, 124M."""
    d = 768
    block = [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,), (d,), (d,), (d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *12 * block, (d,), (d,)]


def lora() -> list[Shape]:
    """Hu et al. 2022 for a model of 7B, rank 8 on all seven projections of 32 layers: 448 tensors, 20M."""
    d, wide, rank = 4096, 11008, 8
    pairs = [*4 * [(d, d)], (d, wide), (d, wide), (wide, d)]
    return [shape for _ in range(32) for a, b in pairs for shape in ((rank, a), (b, rank))]


def _conv(out: int, fan_in: int, kernel: int) -> list[Shape]:
    """A convolution and its batch norm."""
    return [(out, fan_in, kernel, kernel), (out,), (out,)]


def shapes_of(name: str) -> list[Shape]:
    """The shapes by name: `sizes:NUMBER`, or one of the models."""
    if name.startswith("sizes:"):
        return sizes(int(name.removeprefix("sizes:")))
    return {"resnet50": resnet50, "mobile": mobile, "gpt2": gpt2, "lora": lora}[name]()


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
                [sys.executable, str(HERE), "--inside", name, "--shapes", shapes],
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
    own = HERE.parent.parent
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


def inside(name: str, shapes: str) -> None:
    """One rank: says that it is ready, then makes as many steps as each line of its input says."""
    import time  # noqa: PLC0415  # the parent needs neither torch nor gradvote

    import torch  # noqa: PLC0415
    import torch.distributed as dist  # noqa: PLC0415

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    generator = torch.Generator().manual_seed(dist.get_rank())
    gradients = [torch.randn(shape, generator=generator) for shape in shapes_of(shapes)]
    step = _all_reduce(gradients) if name == ALL_REDUCE else _exchange(name, gradients)
    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            dist.barrier()
            seconds.append(-time.perf_counter())
            seconds[-1] += step()
        print(statistics.median(seconds), flush=True)


def _all_reduce(gradients: Sequence[Any]) -> Any:
    import time  # noqa: PLC0415

    import torch  # noqa: PLC0415
    import torch.distributed as dist  # noqa: PLC0415

    flat = torch.cat([g.flatten() for g in gradients])

    def step() -> float:
        dist.all_reduce(flat)
        flat.div_(dist.get_world_size())
        return time.perf_counter()

    return step


def _exchange(name: str, gradients: Sequence[Any]) -> Any:
    import time  # noqa: PLC0415

    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    from gradvote import algorithms  # noqa: PLC0415
    from gradvote.distributed import Exchange  # noqa: PLC0415

    params = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    optimizer = torch.optim.SGD(params, 0.0)
    algorithm = algorithms.noisy(algorithms.signsgd(), 0.1) if name == "noisy-signsgd" else algorithms.create(name)
    exchange, targets = Exchange(params, algorithm), [torch.empty_like(g) for g in gradients]

    def load() -> None:
        torch._foreach_copy_(targets, list(gradients))
        for p, target in zip(params, targets, strict=True):
            p.grad = target

    def step() -> float:
        exchange.step()
        ended = time.perf_counter()
        optimizer.step()
        load()
        return ended

    load()
    return step


def draw(rows: Sequence[Row], file: Path) -> None:
    """Time over the number of sizes, and bars for the models."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gradvote"
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    ladder = [row for row in rows if row.shapes.startswith("sizes:")]
    for index, name in enumerate(dict.fromkeys(row.name for row in ladder)):
        own = [row for row in ladder if row.name == name]
        x = [row.distinct for row in own]
        left.plot(x, [row.ms for row in own], marker="o", color=f"C{index}", label=name)
        if own[0].beside_ms is not None:
            left.plot(
                x, [row.beside_ms or 0.0 for row in own], linestyle=":", color=f"C{index}", label=f"{name}, before"
            )
    left.set(xscale="log", yscale="log", xlabel="distinct sizes of 2,000 tensors", ylabel="ms per step")
    left.legend(fontsize="small")
    models = [row for row in rows if not row.shapes.startswith("sizes:")]
    labels = [f"{row.shapes}\n{row.name}" for row in models]
    right.barh(labels, [row.of_all_reduce for row in models])
    right.axvline(1, color="black", linewidth=0.8)
    right.set(xlabel="times the fp32 all-reduce")
    right.tick_params(axis="y", labelsize="x-small")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", default=DEFAULT)
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--port", type=int, default=29900)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside, options.shapes[0])
        return
    rows = []
    for shapes in options.shapes:
        for row in measured(shapes, options):
            rows.append(row)
            print(
                " ".join(
                    f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in asdict(row).items()
                ),
                flush=True,
            )
    if options.out:
        options.out.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    if options.plot:
        draw(rows, options.plot)


if __name__ == "__main__":
    main()
