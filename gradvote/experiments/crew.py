"""Measuring: what no record is there for is shared out to processes of one thread or more each."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Self

import torch

from gradvote.experiments.claim import Bench, Cell, Claim, Record, Scale
from gradvote.experiments.records import Store, describe

Progress = Callable[[int, int, str], None]
SWEPT = ("seed", "lr")
"""In what cells that are measured together may differ."""


def silent(done: int, total: int, text: str) -> None:
    """No progress shown."""


@dataclass
class Job:
    """The cells of a claim, and the groups of them that are still to be measured."""

    claim: Claim
    store: Store
    cells: list[Cell]
    missing: list[list[Cell]]
    futures: dict[Future[None], list[Cell]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many cells were measured before."""
        return len(self.cells) - sum(map(len, self.missing))


class Crew:
    """`processes` that measure; a context manager. All jobs begun are worked on, in their order, until each is ended.

    A single process is this one, which measures a job when it is ended.
    """

    def __init__(self, processes: int) -> None:
        threads = (torch.get_num_threads(),)
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            self._pool = ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def begin(self, claim: Claim, scale: Scale, store: Store) -> Job:
        """Have the cells without a record measured."""
        cells = claim.cells(scale)
        job = Job(claim, store, cells, groups(claim, [cell for cell in cells if store.load(cell) is None]))
        if self._pool is not None:
            job.futures = {self._pool.submit(_measured, claim, g, store, _unheard): g for g in job.missing}
        return job

    def end(self, job: Job, progress: Progress = silent) -> list[Record]:
        """The records of all cells, when they are there. What a measurement raises is raised here."""
        try:
            (_one_by_one if self._pool is None else _all_at_once)(job, progress)
        finally:
            for future in job.futures:
                future.cancel()
        progress(len(job.cells), len(job.cells), "")
        return [record for cell in job.cells if (record := job.store.load(cell)) is not None]


def measure(claim: Claim, scale: Scale, store: Store, progress: Progress = silent, processes: int = 1) -> list[Record]:
    """The records of all cells of one claim; those in the store are not measured again."""
    with Crew(processes) as crew:
        return crew.end(crew.begin(claim, scale, store), progress)


def groups(claim: Claim, cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that are measured together, each other one by itself."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        together = claim.measure_together is not None and cell.get("together", False)
        shared = {key: value for key, value in cell.items() if not together or key not in SWEPT}
        found.setdefault(json.dumps(shared, sort_keys=True), []).append(cell)
    return list(found.values())


def _one_by_one(job: Job, progress: Progress) -> None:
    done = job.done
    for group in job.missing:
        name = _named(group)
        progress(done, len(job.cells), name)

        def tell(text: str, done: int = done, name: str = name) -> None:
            progress(done, len(job.cells), f"{name}: {text}")

        _measured(job.claim, group, job.store, tell)
        done += len(group)


def _all_at_once(job: Job, progress: Progress) -> None:
    done = job.done
    progress(done, len(job.cells), "")
    for future in as_completed(job.futures):
        future.result()
        done += len(job.futures[future])
        progress(done, len(job.cells), _named(job.futures[future]))


def _named(group: Sequence[Cell]) -> str:
    """A group in words."""
    if len(group) == 1:
        return describe(group[0])
    return describe({key: value for key, value in group[0].items() if key not in SWEPT}) + f", {len(group)} runs"


def _unheard(text: str) -> None:
    """A process of its own has no bar to write on."""


def _measured(claim: Claim, group: Sequence[Cell], store: Store, tell: Callable[[str], None]) -> None:
    scratch = store.path(group[0]).with_suffix("")
    bench, started = Bench(scratch, tell), time.process_time()
    if claim.measure_together is not None and group[0].get("together", False):
        numbers = claim.measure_together(group, bench)
    else:
        numbers = [claim.measure(group[0], bench)]
    seconds = (time.process_time() - started) / len(group)
    for cell, own in zip(group, numbers, strict=True):
        store.save(Record(cell, own, seconds))
    shutil.rmtree(scratch, ignore_errors=True)
