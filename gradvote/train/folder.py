"""A run's folder: `run.json` (the recipe), `records.jsonl` (one object per evaluated step), `checkpoint.pt`.

Beside them the command line puts `report.html` and, where asked for, TensorBoard's files in `events`.
"""

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

import gradvote


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.records = path / "records.jsonl"
        self.about = path / "run.json"
        self.report = path / "report.html"
        self.events = path / "events"

    def check(self, overwrite: bool) -> None:
        """Whether a run may be written here.

        Raises:
            ValueError: there is a run already and `overwrite` is False, or the path is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file, but a run needs a folder. Choose another --out or --name.")
        if any(f.exists() for f in (self.about, self.records, self.checkpoint)) and not overwrite:
            raise ValueError(
                f"There is a run in {self.path} already. Choose another --name, continue it with --resume "
                f"{self.path}, or replace it with --overwrite."
            )

    def create(self) -> None:
        """Make the folder, without the files of an earlier run."""
        self.path.mkdir(parents=True, exist_ok=True)
        for f in (self.about, self.records, self.checkpoint, self.report):
            f.unlink(missing_ok=True)
        for f in self.path.glob("checkpoint-*.rank*.pt"):
            f.unlink()
        shutil.rmtree(self.events, ignore_errors=True)

    def describe(self, about: dict[str, Any]) -> None:
        """Write the recipe, atomically."""
        partial = self.about.with_suffix(".partial")
        partial.write_text(json.dumps(about, indent=1), encoding="utf-8")
        partial.replace(self.about)

    def described(self, key: str) -> str | None:
        """A text of the recipe, or None."""
        try:
            value = json.loads(self.about.read_text(encoding="utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return value if isinstance(value, str) else None

    def commands(self, command: str) -> str:
        """The commands of the run so far and this one."""
        return "; ".join(filter(None, (self.described("command"), command)))

    def append(self, record: dict[str, Any]) -> None:
        """Add a record."""
        with self.records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_from(self, step: int) -> None:
        """Drop the records from `step` on, which a resumed run writes again."""
        if not self.records.is_file():
            return
        lines = [line for line in self.records.read_text(encoding="utf-8").splitlines() if _step(line) < step]
        partial = self.records.with_suffix(".partial")
        partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        partial.replace(self.records)


def versions() -> dict[str, str]:
    """What this process runs on."""
    return {"gradvote": gradvote.__version__, "torch": torch.__version__, "python": platform.python_version()}


def hardware() -> str:
    """The machine, in words."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.system()}"


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
