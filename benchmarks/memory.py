"""What a parameter costs in memory: bytes beyond parameter and gradient, kept between steps and at their peak.

    python benchmarks/memory.py [--params 25600000] [--workers 2 4] [--engines exchange ddp elastic] [--json FILE]

Each row runs in processes of its own, after a small run that loads code and kernels. Resident memory is what Linux
says of the worst rank, with freed memory given back to the system; the peak is that of whole steps after the number of
chunks was chosen. Behind DDP the bytes are those over DDP without a hook, whose buckets are 4 more.
"""

import argparse
import ctypes
import gc
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.distributed import Exchange
from gradvote.engines.launch import spawn
from gradvote.lab.bench.exchange import CHOOSING
from gradvote.rounding import with_state_dtype

D, SMALL, LAYERS, STEPS = 25_600_000, 1_000_000, 10, 3
LATEST = 7
"""Steps of an elastic run before what is kept is measured: ballots or decisions of the latest ones are kept, too."""
NAMES = ("signsgd", "signum", "dist-ef-sgdm", "dropsignsgd", "mediansgd")
NAMES += ("signum in bfloat16", "dist-ef-sgdm in bfloat16", "dropsignsgd in bfloat16")
PLAIN, POWER, ADAM = "ddp alone", "power-sgd, rank 1", "AdamW's states"
Step = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """Bytes per parameter of the rank that has most."""

    engine: str
    name: str
    workers: int
    kept: float
    peak: float


def main() -> None:
    """Print a table of all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=int, default=D)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    print(f"{'engine':<20}{'algorithm':<26}{'workers':>8}{'kept':>8}{'peak':>8}", flush=True)
    for row in measured(args.engines, args.names, args.workers, args.params):
        rows.append(row)
        print(f"{row.engine:<20}{row.name:<26}{row.workers:>8}{row.kept:>8.2f}{row.peak:>8.2f}", flush=True)
    if args.json is not None:
        args.json.write_text(
            json.dumps({"params": args.params, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
        )


def measured(engines: Sequence[str], names: Sequence[str], workers: Sequence[int], d: int) -> Iterator[Row]:
    """One row after another; behind DDP the plain one is taken away from what follows."""
    for engine in engines:
        for num in workers:
            plain = (0.0, 0.0)
            for name in (PLAIN, POWER, ADAM, *names) if engine == "ddp" else names:
                found = spawn(_rank, num, engine, name, d)
                kept, peak = (max(column) for column in zip(*found, strict=True))
                if name == PLAIN:
                    plain = (kept, peak)
                alone = name in (PLAIN, ADAM)
                yield Row(engine, name, num, kept - plain[0] * (not alone), peak - plain[1] * (not alone))


def _rank(engine: str, name: str, d: int) -> tuple[float, float]:
    ENGINES[engine](name, SMALL)
    return ENGINES[engine](name, d)


def algorithm_of(name: str) -> Any:
    """One tensor stands for a model, so that scales of whole tensors become those of blocks.

    A name may say the type of its states: "signum in bfloat16".
    """
    plain, _, state_dtype = name.partition(" in ")
    return with_state_dtype(replace(algorithms.create(plain), block_size=16384), state_dtype or None)


def _exchange(name: str, d: int, placement: Any = "sharded") -> tuple[float, float]:
    p, gradient = _pair(d)
    meter = Meter(d)
    exchange, optimizer = Exchange([p], algorithm_of(name), placement=placement), torch.optim.SGD([p], 1e-4)

    def step() -> None:
        p.grad = gradient.mul_(-0.5)
        exchange.step()
        optimizer.step()

    return meter.of(step, CHOOSING)


def _ddp(name: str, d: int) -> tuple[float, float]:
    width = round((d / LAYERS) ** 0.5)
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(LAYERS)))
    x = torch.randn(1, width)
    model(x).sum().backward()
    meter = Meter(LAYERS * width**2)
    if name == ADAM:
        return meter.of(torch.optim.AdamW(model.parameters()).step, 2)
    return meter.of(_hooked(name, model, x), 6)


def _hooked(name: str, model: nn.Module, x: Tensor) -> Step:
    ddp = DistributedDataParallel(model, bucket_cap_mb=1000 if name == POWER else None)  # else its hook may hang
    if name == POWER:
        state = power.PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=2)
        ddp.register_comm_hook(state, power.powerSGD_hook)
    elif name != PLAIN:
        gradvote.ddp.attach(ddp, algorithm_of(name))

    optimizer = torch.optim.SGD(model.parameters(), 1e-9)

    def step() -> None:
        optimizer.zero_grad()
        ddp(x).sum().backward()
        optimizer.step()

    return step


def _elastic(name: str, d: int, placement: Any = "replicated") -> tuple[float, float]:
    p, gradient = _pair(d)
    model = nn.Module()
    model.register_parameter("weight", p)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    meter, num = Meter(d), dist.get_world_size()
    store = PrefixStore(f"elastic {d}", dist.distributed_c10d._get_default_store())
    vote = gradvote.elastic.attach(
        model, optimizer, algorithm_of(name), min_workers=num, worker=dist.get_rank(), workers=num, store=store,
        deadline=30.0, placement=placement,
    )  # fmt: skip

    def step() -> None:
        p.grad = gradient.mul_(-0.5)
        vote.step()

    with vote:
        return meter.of(step, LATEST)


ENGINES: dict[str, Callable[[str, int], tuple[float, float]]] = {
    "exchange": _exchange,
    "ddp": _ddp,
    "elastic": _elastic,
    "elastic, sharded": lambda name, d: _elastic(name, d, "sharded"),
}


class Meter:
    """What is resident beyond what was when it was made, for each of d parameters."""

    def __init__(self, d: int) -> None:
        self._d = d
        self._before = _resident("VmRSS")

    def of(self, step: Step, warm_up: int) -> tuple[float, float]:
        """Kept after a step, and the peak within steps."""
        for _ in range(warm_up):
            step()
        kept = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        for _ in range(STEPS):
            step()
        peak = _resident("VmHWM")
        return (kept - self._before) / self._d, (peak - self._before) / self._d


def _pair(d: int) -> tuple[nn.Parameter, Tensor]:
    return nn.Parameter(torch.zeros(d).fill_(0.5)), torch.randn(d)


def _resident(what: str) -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{what}:")).split()[1])


if __name__ == "__main__":
    main()
