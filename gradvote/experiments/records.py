"""Records on disk: one JSON file per measured cell, written whole or not at all, so that a run can be resumed."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradvote
from gradvote.experiments.claim import Cell, Claim, Record, Scale


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
