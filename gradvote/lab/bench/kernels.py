"""`gradvote bench kernels`: every operation against its rival and the speed of memory, over sizes and over workers."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradvote
from gradvote.lab.bench import cases
from gradvote.lab.bench.cases import MEDIAN, MODEL, Case
from gradvote.lab.bench.measure import Measurement, growth, measure
from gradvote.lab.bench.timing import SHORTEST, bandwidth, free_bytes, machine
from gradvote.lab.files import to_json, write_text

SIZES = tuple(round(10 ** (k / 2)) for k in range(6, 17))
QUICK_MODEL, QUICK_MEDIAN, QUICK_SIZES = 1_000_000, 100_000, (1_000, 10_000, 100_000, 1_000_000, 4_000_000)
VOTERS, MEDIANS, WORKERS = (3, 7, 15, 31, 63), (3, 7, 15, 31, 64), range(1, 34)
BYTES = {"pack": 6, "noisy": 32, "vote": 20, "median": 40, "drop sign": 80, "unpack": 24}
"""Memory that a case and its rival take, per coordinate; votes and medians at 7 workers."""

CURSORY = 0.02
"""Seconds that a measurement takes at least outside of the table, and where all is to be quick."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """A case that is yet to be built: for the table, the sweep over sizes or the sweep over workers."""

    part: str
    name: str
    build: Callable[[], Case]
    num_bytes: int
    with_rival: bool = True


def run_kernels(
    out: Path, sizes: Sequence[int] | None = None, quick: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Measures all and writes `kernels.json` to the folder `out`; `progress(name, done, total)` follows it.

    `sizes` are those of the sweep over d, 10³ to 10⁸ by default; what does not fit into memory is left out.

    Raises:
        WrongResultError: a kernel is wrong.
        ValueError: a size is not positive.
    """
    if sizes is not None and min(sizes, default=0) < 1:
        raise ValueError(f"The sizes must be positive numbers of coordinates; got {list(sizes)}.")
    out.mkdir(parents=True, exist_ok=True)
    speed, found, left_out = bandwidth(), [], []
    jobs = list(_jobs(sizes or (QUICK_SIZES if quick else SIZES), quick))
    for done, job in enumerate(jobs):
        if progress is not None:
            progress(job.name, done, len(jobs))
        if _fits(job.num_bytes):
            shortest = SHORTEST if job.part == "table" and not quick else CURSORY
            found.append(measure(job.build(), job.part, speed, job.with_rival, shortest))
        else:
            left_out.append(job.name)
    result = {
        "machine": machine(),
        "versions": versions(),
        "bandwidth": asdict(speed),
        "growth": {name: asdict(line) for name, line in growth(found).items()},
        "left_out": left_out,
        "results": [m.as_dict() for m in found],
    }
    write_text(out / "kernels.json", to_json(result, indent=1))
    return result


def load(path: Path) -> list[Measurement]:
    """The measurements of a `kernels.json`."""
    rows = json.loads(path.read_text(encoding="utf-8"))["results"]
    names = Measurement.__dataclass_fields__
    return [Measurement(**{name: row[name] for name in names}) for row in rows]


def versions() -> dict[str, str]:
    """Of what does the work."""
    return {
        "gradvote": gradvote.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": version("numba"),
    }


def _jobs(sizes: Sequence[int], quick: bool) -> Iterator[Job]:
    model, rows = (QUICK_MODEL, QUICK_MEDIAN) if quick else (MODEL, MEDIAN)
    yield from _table(model, rows)
    for d in sizes:
        for build in (cases.pack, cases.noisy, cases.vote, cases.median, cases.drop_sign, cases.unpack):
            yield _job("sizes", build, d)
    for m in WORKERS:
        yield _job("workers", cases.vote, model, m, with_rival=False)
        yield _job("workers", cases.median, rows, m, with_rival=False)


def _table(model: int, rows: int) -> Iterator[Job]:
    yield _job("table", cases.pack, model)
    yield from (_job("table", cases.vote, model, m) for m in VOTERS)
    yield from (_job("table", cases.noisy, model, b) for b in ("gaussian", "laplace", "logistic", "uniform"))
    yield from (_job("table", cases.median, rows, m) for m in MEDIANS)
    yield from (_job("table", cases.drop_sign, model, granularity) for granularity in (1, 64))
    yield _job("table", cases.unpack, model)


def _job(part: str, build: Callable[..., Case], d: int, *variant: int | str, with_rival: bool = True) -> Job:
    operation = build.__name__.replace("_", " ")
    rows = variant[0] / 7 if operation in ("vote", "median") and variant and isinstance(variant[0], int) else 1.0
    name = f"{' '.join(map(str, (operation, *variant)))}, d = {d:,}"
    return Job(part, name, partial(build, d, *variant), round(BYTES[operation] * d * max(rows, 1.0)), with_rival)


def _fits(num_bytes: int) -> bool:
    free = free_bytes()
    return free is None or num_bytes < 0.8 * free
