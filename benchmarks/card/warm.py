"""Compiles what tests on a card start, in many processes at once: each test by itself would compile for minutes.

The tests' rounds are made on the CPU with a stand-in for `launch` that runs nothing and notes what it was asked for.
Then processes start each kernel once, on small tensors of the same types and alignment, which leaves it on disk.
"""

import importlib
import pkgutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import HashStore

from gradvote import kernels
from gradvote.engines.common import flat_buffer
from gradvote.kernels import cuda

ROOT = Path(__file__).parents[2]
ALIGNED = 16
"""Bytes; the compiler makes other code for pointers and numbers that are multiples of this, and for the number 1."""


@dataclass(frozen=True)
class Start:
    """How a kernel was started: for a tensor its type and whether it is aligned, else a number."""

    module: str
    kernel: str
    args: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]


def run(processes: int) -> int:
    """Compile all that `starts` finds; how many kernels that are."""
    wanted = sorted(starts(), key=repr)
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        failed = [line for line in pool.map(_started, wanted) if line]
    print(*failed[:5], sep="\n")
    return len(wanted)


def starts() -> set[Start]:
    """What the golden cases start, in the simulation, between ranks, and behind DDP."""
    sys.path.insert(0, str(ROOT))
    workers = importlib.import_module("tests.engines.cuda_workers")
    cases = importlib.import_module("tests.golden.cases").all_cases()
    found: set[Start] = set()
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        with _as_on_a_card(found), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for algorithm in cases.values():
                for way in (workers.simulated, workers.by_exchange, workers.by_ddp):
                    _tried(way, algorithm)
    finally:
        dist.destroy_process_group()
    return found


def _tried(way: Any, algorithm: Any) -> None:
    """Nothing was computed, so what comes of it may be refused; what was started by then counts."""
    try:
        way(algorithm, "cpu")
    except (RuntimeError, ValueError, IndexError):
        return


@contextmanager
def _as_on_a_card(found: set[Start]) -> Iterator[None]:
    """Have tensors of the CPU go to the kernels of a card, which note that they were started."""

    def note(kernel: Any, programs: int, like: Tensor, *args: Any, **options: Any) -> None:
        if programs:
            name = kernel.__name__
            kinds = tuple(_kind(arg, param) for arg, param in zip(args, kernel.params, strict=False))
            found.add(Start(kernel.fn.__module__, name, kinds, tuple(sorted(options.items()))))

    fast, modules = (
        kernels._fast.__wrapped__,
        [f"{cuda.__name__}.{m.name}" for m in pkgutil.iter_modules(cuda.__path__)],
    )
    with ExitStack() as stack:
        for name in modules:
            if hasattr(importlib.import_module(name), "launch") and not name.endswith(".launch"):
                stack.enter_context(mock.patch(f"{name}.launch", note))
        stack.enter_context(mock.patch.object(kernels, "_fast", lambda _, name: fast("cuda", name)))
        stack.enter_context(mock.patch.object(kernels, "_can_compile", lambda _: True))
        stack.enter_context(mock.patch.object(flat_buffer, "reads_scattered", lambda _: True))
        yield


def _kind(arg: Any, param: Any) -> Any:
    """An argument, or another one that the compiler makes the same code for."""
    if isinstance(arg, Tensor):
        return str(arg.dtype)[6:], arg.data_ptr() % ALIGNED == 0
    if isinstance(arg, float):
        return 0.5
    if not -(2**31) <= arg < 2**31:
        return 2**40 + 1
    return 3 if param.do_not_specialize or (arg != 1 and arg % ALIGNED) else 1 if arg == 1 else ALIGNED


def _started(start: Start) -> str:
    """Start a kernel on nothing; what went wrong, if anything did."""
    sys.path.insert(0, str(ROOT))
    module = importlib.import_module(start.module)
    options: Mapping[str, Any] = dict(start.options)
    began = time.perf_counter()
    try:
        getattr(module, start.kernel).warmup(
            *map(_argument, start.args),
            grid=(1,),
            enable_fp_fusion=False,
            **{"maxnreg": None, "num_warps": 4, **options},
        )
    except Exception as error:  # the test that needs it will say so, too
        return f"{start.kernel}: {type(error).__name__}: {error}"[:300] + f" ({time.perf_counter() - began:.0f} s)"
    return ""


def _argument(kind: Any) -> Any:
    if not isinstance(kind, tuple):
        return kind
    dtype, aligned = getattr(torch, kind[0]), kind[1]
    whole = torch.zeros(64, dtype=dtype, device="cuda")
    return whole if aligned else whole[1:]
