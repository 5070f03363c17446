"""Measuring: what no record is there for is shared out to processes of one thread or more each."""

import json
import multiprocessing
import queue
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Self

import torch

from gradvote.engines.common.signals import deaf_children
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Record, Scale
from gradvote.lab.experiments.hands import News, Tell, begin_work, measured_there, unheard
from gradvote.lab.experiments.pace import Board, Piece
from gradvote.lab.experiments.records import Store, describe
from gradvote.lab.experiments.tuning import assembled, settled, tuning_cells

Progress = Callable[[Board], None]
SWEPT = ("seed", "lr")
"""In what cells that are measured together may differ."""
OFTEN = 0.2


def silent(board: Board) -> None:
    """No progress shown."""


@dataclass
class Job:
    """What is measured of a claim: first what `tuning` asks for, then the cells, once their choices are made.

    `missing` are the groups that are still to be measured, by key; `later` those of cells that wait for a choice.
    """

    claim: Claim
    scale: Scale
    store: Store
    rows: list[Cell] = field(init=False)
    tuning: list[Cell] = field(init=False)
    missing: dict[str, list[Cell]] = field(default_factory=dict)
    later: dict[str, list[Cell]] = field(default_factory=dict)
    futures: dict[str, Future[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = self.claim.cells(self.scale)
        self.tuning = tuning_cells(self.claim, self.rows, self.scale)

    @property
    def chosen(self) -> list[Record]:
        """The records that choices are made by."""
        return [record for cell in self.tuning if (record := self.store.load(cell)) is not None]

    @property
    def ready(self) -> bool:
        """Whether cells wait, and what they wait for has been measured."""
        return bool(self.later) and all(self.store.path(cell).is_file() for cell in self.tuning)

    def settle(self) -> None:
        """Make the choices: what waited is now to be measured, but for what has a record."""
        chosen = self.chosen
        for key, rows in self.later.items():
            cells = [settled(self.claim, row, self.scale, chosen) for row in rows]
            self.missing[key] = [cell for cell in cells if self.store.load(cell) is None]
        self.later = {}

    def records(self) -> list[Record]:
        """Those of the cells that were measured, with the scores of their choices."""
        return assembled(self.claim, self.scale, self.store.load)[0]


class Crew:
    """`processes` that measure; a context manager. All jobs begun are worked on, in their order, until each is ended.

    A single process is this one, which measures a job when it is ended. An exception, Ctrl-C too, ends all: what trains
    ends after its step, and goes on from there the next time; everything else is dropped at once, and no new cell is
    begun. A second Ctrl-C kills the processes. Where this process is killed, they end by themselves.
    """

    def __init__(self, processes: int) -> None:
        self.board, self._pool = Board(processes), None  # type: Board, ProcessPoolExecutor | None
        self._futures: dict[str, Future[None]] = {}
        self._jobs: list[Job] = []
        self._present = False
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            self._news: multiprocessing.Queue[News] = context.Queue()
            self._stopped = context.Event()
            known = self._news, self._stopped, torch.get_num_threads()
            self._pool = ProcessPoolExecutor(processes, context, begin_work, known)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None:
            self._stop(list((self._pool._processes or {}).values()))  # `kill_workers` is newer than Python 3.13
        self._pool.shutdown(cancel_futures=True)

    def _stop(self, processes: Sequence[BaseProcess]) -> None:
        """End what is being measured; the processes then have nothing left to do, and are not waited for."""
        self._stopped.set()
        working = [future for future in self._futures.values() if not future.cancel()]
        try:
            wait(working if self._present else [])  # before, they import torch
        finally:
            for process in processes:
                process.kill()

    def begin(self, claim: Claim, scale: Scale, store: Store) -> Job:
        """Have the cells without a record measured."""
        job = Job(claim, scale, store)
        rows = job.rows
        for group in groups(claim, job.tuning):
            lacking = [cell for cell in group if store.load(cell) is None]
            self.board.before += len(group) - len(lacking)
            if lacking:
                job.missing[str(store.path(lacking[0]))] = lacking
        job.later = {str(store.path(group[0])): group for group in groups(claim, rows)}
        for key, group in [*job.missing.items(), *job.later.items()]:
            self.board.pieces[key] = Piece(store.folder.name, _named(group, rows), len(group))
        self._jobs.append(job)
        self._next(job)
        return job

    def _next(self, job: Job) -> None:
        """Share out what can be measured now."""
        if job.ready or not job.tuning:
            job.settle()
        for key, group in list(job.missing.items()):
            piece = self.board.pieces[key]
            self.board.before += piece.cells - len(group)
            piece.cells = len(group)
            if not group:
                del self.board.pieces[key], job.missing[key]
        if self._pool is not None:
            fresh = {k: group for k, group in job.missing.items() if k not in job.futures}
            with deaf_children():
                added = {
                    k: self._pool.submit(measured_there, _measured, k, job.claim, g, job.store)
                    for k, g in fresh.items()
                }
            job.futures |= added
            self._futures |= added

    def end(self, job: Job, progress: Progress = silent) -> list[Record]:
        """The records of all cells, when they are there. What a measurement raises is raised here."""
        try:
            (self._one_by_one if self._pool is None else self._all_at_once)(job, progress)
        finally:
            for key, future in job.futures.items():
                if future.cancel():
                    del self.board.pieces[key]
            for key in job.later:
                del self.board.pieces[key]
            self._jobs.remove(job)
        progress(self.board)
        return job.records()

    def _one_by_one(self, job: Job, progress: Progress) -> None:
        while job.missing or job.later:
            for key in list(job.missing):
                self._here(key, job, progress)
                del job.missing[key]
            if job.later:
                self._next(job)

    def _here(self, key: str, job: Job, progress: Progress) -> None:
        def tell(step: int, steps: int, note: str) -> None:
            self.board.tell(key, step / max(steps, 1), _place(step, steps, note))
            progress(self.board)

        self.board.tell(key)
        progress(self.board)
        _measured(job.claim, job.missing[key], job.store, tell)
        self.board.end(key)

    def _all_at_once(self, job: Job, progress: Progress) -> None:
        while job.later or any(not future.done() for future in job.futures.values()):
            self._listen()
            progress(self.board)
            for future in job.futures.values():
                if future.done():
                    future.result()
            for own in self._jobs:
                if own.ready:
                    self._next(own)
        self._listen()
        for future in job.futures.values():
            future.result()

    def _listen(self) -> None:
        """Take what the processes say, for a moment; and who has ended."""
        patience = OFTEN
        while True:
            try:
                key, step, steps, note = self._news.get(timeout=patience) if patience else self._news.get_nowait()
            except queue.Empty:
                break
            patience, self._present = 0.0, True
            if key in self.board.pieces and self.board.pieces[key].seconds is None:
                self.board.tell(key, step / max(steps, 1), _place(step, steps, note))
        for key, future in self._futures.items():
            if key in self.board.pieces and future.done() and not future.cancelled() and future.exception() is None:
                self.board.end(key)


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


def _place(step: int, steps: int, note: str) -> str:
    return ", ".join(filter(None, (f"step {step} of {steps}" if steps else "", note)))


def _named(group: Sequence[Cell], cells: Sequence[Cell]) -> str:
    """A group in words: what tells it from the other cells of its claim."""
    first, alone = group[0], len(group) == 1
    own = {k: v for k, v in first.items() if any(cell.get(k) != v for cell in cells) and (alone or k not in SWEPT)}
    own.pop("choices", None)
    return ", ".join(filter(None, (describe(own), "" if alone else f"{len(group)} runs")))


def _measured(claim: Claim, group: Sequence[Cell], store: Store, tell: Tell = unheard) -> None:
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
