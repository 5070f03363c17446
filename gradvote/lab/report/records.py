"""A run folder read back: `run.json` (what was run) and `records.jsonl` (what was measured, step by step)."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradvote.lab.files import from_json, number

Counts = tuple[tuple[float, ...], ...]
"""Samples of each class, one row per worker."""

Record = Mapping[str, float]
"""One evaluated step: the numbers that were measured; a value that was not (null) is absent, NaN and ∞ are kept."""


@dataclass(frozen=True)
class Run:
    """One training run: its recipe, its state and its records in order of their steps."""

    name: str
    label: str
    algorithm: str = ""
    command: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    versions: Mapping[str, object] = field(default_factory=dict)
    hardware: str = ""
    num_parameters: int | None = None
    num_workers: int | None = None
    class_histogram: Counts = ()
    class_names: tuple[str, ...] = ()
    status: str = "running"
    message: str = ""
    step: int | None = None
    faults: str = ""
    abstentions_by_worker: tuple[int, ...] = ()
    records: tuple[Record, ...] = ()
    raw_run: str = "{}"
    raw_records: str = ""

    def final(self, key: str) -> float | None:
        """The last value measured under `key`; None if there is none."""
        return next((record[key] for record in reversed(self.records) if key in record), None)

    def largest(self, key: str) -> float | None:
        """The largest number measured under `key`, NaN left out; None if there is none."""
        return max((r[key] for r in self.records if key in r and not math.isnan(r[key])), default=None)

    @property
    def last_step(self) -> float | None:
        return self.final("step")

    @property
    def total_bytes(self) -> float | None:
        """Bytes sent by all workers and the server together, up to the last record."""
        return next((t for r in reversed(self.records) if (t := total_bytes(r)) is not None), None)

    @property
    def stopped_at(self) -> float | None:
        """The step at which the loss first was not finite (of a run that diverged), else the last step.

        A run that was interrupted may have gone on since its last record, so it says itself where it was.
        """
        if self.status == "interrupted" and self.step is not None:
            return self.step
        if self.status != "diverged":
            return self.last_step
        lost = (r["step"] for r in self.records if not math.isfinite(r.get("loss", 0.0)))
        return next(lost, self.last_step)


@dataclass(frozen=True)
class Scene:
    """Runs that belong side by side, under the heading and the words that say what they show."""

    title: str
    text: str
    runs: tuple[Run, ...]


def total_bytes(record: Record) -> float | None:
    """Bytes up plus bytes down; a direction that was not measured counts nothing, None if neither was."""
    sent = [record[key] for key in ("bytes_up", "bytes_down") if key in record]
    return sum(sent) if sent else None


def unique_labels(runs: Sequence[Run]) -> list[str]:
    """The label of each run; where several share one, the run's name (and, failing that, its place) is added."""
    labels = [run.label for run in runs]
    for names in (
        [f"{r.label} ({r.name})" for r in runs],
        [f"{r.label} ({i})" for i, r in enumerate(runs, 1)],
    ):
        seen = Counter(labels)
        labels = [name if seen[label] > 1 else label for label, name in zip(labels, names, strict=True)]
    return labels


def load_run(folder: Path | str) -> Run:
    """Read a run folder.

    A missing `records.jsonl` is a run without records yet; a last line cut short (the process was killed) is left out;
    of a step recorded twice (the run was resumed) the later record counts. Unknown keys are kept in the raw text only.

    Raises:
        ValueError: the folder holds no `run.json`, or a file is not what a run writes; the file and line are named.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a run folder: it holds no run.json. Give the folder that a run wrote.")
    raw = path.read_bytes()
    about = _object(raw, str(path))
    lines = _complete_lines(folder / "records.jsonl")
    return _run(about, folder.name or folder.resolve().name, path, raw, lines)


def _run(about: dict[str, object], name: str, path: Path, raw: bytes, lines: list[tuple[str, Record]]) -> Run:
    name = _text(about, "name") or name
    by_step = {record["step"]: record for _, record in lines if math.isfinite(record.get("step", math.nan))}
    return Run(
        name=name,
        label=_text(about, "label") or name,
        algorithm=_text(about, "algorithm"),
        command=_text(about, "command"),
        config=_mapping(about, "config"),
        seed=_integer(about, "seed"),
        versions=_mapping(about, "versions"),
        hardware=_text(about, "hardware"),
        num_parameters=_integer(about, "num_parameters"),
        num_workers=_integer(about, "num_workers"),
        class_histogram=_histogram(about, path),
        class_names=tuple(str(item) for item in _list(about, "class_names")),
        status=_text(about, "status") or "running",
        message=_text(about, "message"),
        step=_integer(about, "step"),
        faults=_text(about, "faults"),
        abstentions_by_worker=tuple(int(n) for n in _list(about, "abstentions_by_worker") if isinstance(n, int)),
        records=tuple(by_step[step] for step in sorted(by_step)),
        raw_run=raw.decode(),
        raw_records="".join(line + "\n" for line, _ in lines),
    )


def _object(raw: bytes, where: str) -> dict[str, object]:
    try:
        value = from_json(raw)
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON ({error}). Was it cut short or edited? Run it again.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where} holds a JSON {type(value).__name__}; a run writes an object ({{...}}) there.")
    return value


def _complete_lines(path: Path) -> list[tuple[str, Record]]:
    """Each line of the file with its numbers; a broken last line is what a killed process leaves, and is skipped."""
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()] if path.is_file() else []
    parsed: list[tuple[str, Record]] = []
    for index, line in enumerate(lines):
        try:
            record = _object(line, f"Record {index + 1} of {path}")
        except ValueError:
            if index + 1 == len(lines):
                break
            raise
        parsed.append((line.decode().strip(), _numbers(record)))
    return parsed


def _numbers(record: dict[str, object]) -> Record:
    return {key: value for key, own in record.items() if (value := number(own)) is not None}


def _text(about: dict[str, object], key: str) -> str:
    value = about.get(key)
    return "" if value is None else str(value)


def _integer(about: dict[str, object], key: str) -> int | None:
    value = about.get(key)
    return value if isinstance(value, int) else None


def _mapping(about: dict[str, object], key: str) -> dict[str, object]:
    value = about.get(key)
    return value if isinstance(value, dict) else {}


def _list(about: dict[str, object], key: str) -> list[object]:
    value = about.get(key)
    return value if isinstance(value, list) else []


def _histogram(about: dict[str, object], path: Path) -> Counts:
    rows = _list(about, "class_histogram")
    counts = [tuple(n for own in row if (n := number(own)) is not None) for row in rows if isinstance(row, list)]
    kept = [len(row) for row in counts] == [len(row) for row in rows if isinstance(row, list)]
    if len(counts) != len(rows) or not kept or len({len(row) for row in counts}) > 1:
        raise ValueError(f"class_histogram in {path} must be one list of counts per worker, all of equal length.")
    return tuple(counts)
