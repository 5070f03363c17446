"""Records on disk: one JSON file per measured cell, written whole or not at all, so that a run can be resumed."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradvote.lab.experiments.claim import Cell, Record
from gradvote.lab.files import from_json, number, to_json, write_text
from gradvote.lab.train.machine import hardware, versions

_SCRATCH = re.compile(r"[0-9a-f]{16}")
_RECORD = re.compile(r"[0-9a-f]{16}\.json|\.\d+\.partial|\..*\.tmp")
"""What files of a store are called: a record and one half written; a folder in which a cell is measured."""


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
            raw = from_json(path.read_text(encoding="utf-8"))
            return Record(raw["cell"], _read(raw["numbers"]), raw["seconds"], raw.get("made", {}))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a record. Delete it, or measure again with --fresh.") from error

    def save(self, record: Record) -> None:
        """Write a record atomically. One that does not say on what it was measured was measured here."""
        content = {**vars(record), "made": dict(record.made) or {"machine": hardware(), **versions()}}
        write_text(self.path(record.cell), to_json(content, indent=1))

    def forget(self) -> None:
        """Delete every record, and what measurements that were stopped have left; nothing else in the folder."""
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if _RECORD.fullmatch(path.name):
                path.unlink()
            elif _SCRATCH.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)


def describe(cell: Cell) -> str:
    """A cell in words."""
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in cell.items()
    )


def export(records: Sequence[Record]) -> str:
    """Records as JSON lines; the first says on what they were measured, and in how many seconds of processor time.

    Where that was more than one machine, each line has the place of its own in that list.
    """
    made = [dict(m) for m in {json.dumps(dict(r.made)): r.made for r in records}.values()]
    head = to_json({"made": made, "seconds": round(sum(r.seconds for r in records))})
    places = [{"made": made.index(dict(r.made))} if len(made) > 1 else {} for r in records]
    lines = [to_json({"cell": r.cell, "numbers": r.numbers} | p) for r, p in zip(records, places, strict=True)]
    return "".join(f"{line}\n" for line in (head, *lines))


def imported(text: str) -> dict[str, Record]:
    """The records that `export` wrote, by the JSON of their cells with sorted keys."""
    head, *lines = (from_json(line) for line in text.splitlines())
    made, seconds = head["made"] or [{}], head["seconds"] / max(1, len(lines))
    return {
        json.dumps(raw["cell"], sort_keys=True): Record(
            raw["cell"], _read(raw["numbers"]), seconds, made[raw.get("made", 0)]
        )
        for raw in lines
    }


def _read(value: Any) -> Any:
    """Numbers as they were, those included that JSON writes as texts."""
    if isinstance(value, dict):
        return {key: _read(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_read(own) for own in value]
    named = number(value) if isinstance(value, str) else None
    return value if named is None else named
