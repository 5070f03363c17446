"""Records of runs: one line of JSON each, which is not measured again."""

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]
FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"
RECORDS, PLOT = FIGURES / "language-model.jsonl", FIGURES / "language-model.svg"


def load(path: Path = RECORDS) -> list[Record]:
    """The records that there are."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def add(record: Record, path: Path = RECORDS) -> None:
    """One more."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def missing(cells: list[Record], records: list[Record]) -> list[Record]:
    """The cells of which there is no record."""
    return [cell for cell in cells if not any(all(r[k] == v for k, v in cell.items()) for r in records)]


def best_of(records: list[Record], scale: str) -> dict[tuple[str, int], Record]:
    """The record of the lowest last validation loss by method and H, without faults, of the seed of tuning."""
    found: dict[tuple[str, int], Record] = {}
    for r in records:
        key = r["method"], r["every"]
        if r["scale"] != scale or r["fault"] or r["seed"]:
            continue
        if key not in found or r["loss"][-1] < found[key]["loss"][-1]:
            found[key] = r
    return found
