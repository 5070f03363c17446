"""A run's folder: `run.json` (the recipe), `records.jsonl` (one object per evaluated step), `checkpoint.pt`.

Beside them the command line puts `report.html` and, where asked for, TensorBoard's files in `events`. A run owns the
files of these names that it has made, and nothing else: a folder in which one of them is somebody else's is refused.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradvote.lab.files import from_json, is_page, number, to_json, write_text
from gradvote.lab.locks import FolderLock

OWN = ("run.json", "records.jsonl", "checkpoint.pt", "checkpoint.pt.partial", "events/events.out.tfevents.*")
PAGE = "report.html"
OF_ENGINE = {
    "ddp": ("checkpoint-*.rank*.pt", "checkpoint-*.rank*.pt.partial"),
    "elastic": ("job.json", "worker-*.pt", "worker-*.pt.partial"),
}
"""What the files of a run are called, and those that only runs on an engine have."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.records = path / "records.jsonl"
        self.about = path / "run.json"
        self.report = path / PAGE
        self.events = path / "events"
        self.claimed: list[str] | None = None
        self._lock = FolderLock(path)

    def check(self, overwrite: bool, engine: str = "") -> None:
        """Whether a run on this engine may be written here.

        Raises:
            ValueError: there is a run already and `overwrite` is False, another process is writing here, a file of one
                of the names that a run needs is not a run's, or the path is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file, but a run needs a folder. Choose another --out or --name.")
        self.check_lock()
        self._check_files(overwrite, engine)

    def _check_files(self, overwrite: bool, engine: str) -> None:
        owned = self._owned()
        if owned and not overwrite:
            raise ValueError(
                f"There is a run in {self.path} already. Choose another --name, continue it with --resume "
                f"{self.path}, or replace it with --overwrite."
            )
        foreign = sorted(set(self._found((*OWN, PAGE, *OF_ENGINE.get(engine, ())))) - set(owned))
        if foreign:
            raise ValueError(
                f"{foreign[0]} is there, which no run of gradvote has made, so it is neither replaced nor removed. "
                "Choose another --out or --name, or move it away."
            )

    def _owned(self) -> list[Path]:
        """The files of the run that is here; none where `run.json` is not that of a run."""
        about = self._about()
        config = about.get("config")
        if not isinstance(config, dict):
            return []
        kinds = {name for names in OF_ENGINE.values() for name in names} | {*OWN}
        claimed = about.get("files", [*OWN, *OF_ENGINE.get(str(config.get("engine")), ())])
        own = self._found(name for name in claimed if name in kinds)
        return own + ([self.report] if is_page(self.report) else [])

    def _found(self, names: Iterable[str]) -> list[Path]:
        return [path for name in names for path in self.path.glob(name)]

    def create(self, overwrite: bool = False, engine: str = "") -> None:
        """Take the folder, and make it without the files of an earlier run.

        Raises:
            ValueError: as `check`, which is repeated when nobody else can write here any more.
        """
        self.hold()
        try:
            self._check_files(overwrite, engine)
        except BaseException:
            self.release()
            raise
        self.claimed = [*OWN, *OF_ENGINE.get(engine, ())]
        for path in sorted(self._owned(), key=lambda path: path == self.about):  # last, as it says whose the others are
            path.unlink(missing_ok=True)
        if self.events.is_dir() and not any(self.events.iterdir()):
            self.events.rmdir()

    def check_checkpoint(self) -> None:
        """Raise ValueError where there is no checkpoint."""
        if not self.checkpoint.is_file():
            raise ValueError(
                f"There is no checkpoint at {self.checkpoint}. Give the folder of a run that has written one."
            )

    def check_lock(self) -> None:
        """Raise ValueError where another process is writing here."""
        self._lock.check()

    def hold(self) -> None:
        """Keep all others from writing here. Raises ValueError where somebody else does."""
        self._lock.hold()

    def release(self) -> None:
        """Let others write here."""
        self._lock.release()

    def describe(self, about: dict[str, Any]) -> None:
        """Write the recipe, atomically, with the names of the files that the run owns."""
        files = self._about().get("files") if self.claimed is None else self.claimed
        write_text(self.about, to_json({**about, **({"files": files} if files else {})}, indent=1))

    def engine(self) -> str | None:
        """The engine of the run that is here; None where that cannot be told."""
        config = self._about().get("config")
        named = config.get("engine") if isinstance(config, dict) else None
        return named if isinstance(named, str) else None

    def described(self, key: str) -> str | None:
        """A text of the recipe, or None."""
        value = self._about().get(key)
        return value if isinstance(value, str) else None

    def _about(self) -> dict[str, Any]:
        try:
            about = from_json(self.about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def commands(self, command: str) -> str:
        """The commands of the run so far and this one."""
        return "; ".join(filter(None, (self.described("command"), command)))

    def append(self, record: dict[str, Any]) -> None:
        """Add a record."""
        with self.records.open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")

    def forget_from(self, step: int) -> None:
        """Drop the records from `step` on, which a resumed run writes again."""
        if not self.records.is_file():
            return
        lines = [line for line in self.records.read_text(encoding="utf-8").splitlines() if _step(line) < step]
        write_text(self.records, "".join(line + "\n" for line in lines))


def _step(line: str) -> float:
    try:
        step = number(from_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        step = None
    return float("inf") if step is None else step
