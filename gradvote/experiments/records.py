"""Records on disk: one JSON file per measured cell, written whole or not at all, so that a run can be resumed."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

import gradvote
from gradvote.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale

Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, text: str) -> None:
    """No progress shown."""


@dataclass(frozen=True)
class Store:
    """The records of one claim at one scale, in a folder."""

    folder: Path

    def path(self, cell: Cell) -> Path:
        """The file of a cell: named by a digest of its settings."""
        text = json.dumps(cell, sort_keys=True)
        return self.folder / f"{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.json"

    def load(self, cell: Cell) -> Record | None:
        """The record of a cell, or None if it was not measured yet.

        Raises:
            ValueError: the file is not what was written there.
        """
        path = self.path(cell)
        if not path.is_file():
            return None
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return Record(raw["cell"], raw["numbers"], raw["seconds"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a record. Delete it, or measure again with --fresh.") from error

    def save(self, record: Record) -> None:
        """Write a record atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {**vars(record), "gradvote": gradvote.__version__}
        partial = self.folder / f".{os.getpid()}.partial"
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        partial.replace(self.path(record.cell))

    def forget(self) -> None:
        """Delete every record."""
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(claim: Claim, scale: Scale, store: Store, progress: Progress = silent, processes: int = 1) -> list[Record]:
    """The records of all cells; those in the store are not measured again. Cells are shared out to `processes`."""
    cells = claim.cells(scale)
    missing = [cell for cell in cells if store.load(cell) is None]
    (_one_by_one if processes == 1 or len(missing) < 2 else partial(_together, processes))(
        claim, missing, len(cells), store, progress
    )
    progress(len(cells), len(cells), "")
    return [record for cell in cells if (record := store.load(cell)) is not None]


def _one_by_one(claim: Claim, missing: list[Cell], total: int, store: Store, progress: Progress) -> None:
    for done, cell in enumerate(missing, total - len(missing)):
        name = describe(cell)
        progress(done, total, name)

        def tell(text: str, done: int = done, name: str = name) -> None:
            progress(done, total, f"{name}: {text}")

        _measured(claim.measure, cell, store, tell)


def _together(processes: int, claim: Claim, missing: list[Cell], total: int, store: Store, progress: Progress) -> None:
    done = total - len(missing)
    progress(done, total, f"{processes} at a time")
    pool = ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),))
    try:
        futures = {pool.submit(_measured, claim.measure, cell, store, _unheard): cell for cell in missing}
        for future in as_completed(futures):
            future.result()
            done += 1
            progress(done, total, describe(futures[future]))
    finally:
        pool.shutdown(cancel_futures=True)


def _unheard(text: str) -> None:
    """A process of its own has no bar to write on."""


def known(claim: Claim, scale: Scale, store: Store) -> list[Record] | None:
    """The records of all cells if all were measured, else None."""
    records = [store.load(cell) for cell in claim.cells(scale)]
    found = [r for r in records if r is not None]
    return found if len(found) == len(records) else None


def describe(cell: Cell) -> str:
    """A cell in words."""
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in cell.items()
    )


def export(records: Sequence[Record]) -> str:
    """Records as JSON lines, without the seconds, which differ from machine to machine."""
    return "".join(json.dumps({"cell": r.cell, "numbers": r.numbers}) + "\n" for r in records)


def _measured(rule: Callable[[Cell, Bench], Numbers], cell: Cell, store: Store, tell: Callable[[str], None]) -> None:
    scratch = store.path(cell).with_suffix("")
    started = time.perf_counter()
    numbers = rule(cell, Bench(scratch, tell))
    store.save(Record(cell, numbers, time.perf_counter() - started))
    shutil.rmtree(scratch, ignore_errors=True)
