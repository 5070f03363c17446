"""Choices are made by runs of their own: other seeds, other samples than those that judge."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from gradvote.lab.experiments.claim import Cell, Claim, Record, Scale
from gradvote.lab.experiments.statistics import mean

FIRST_SEED = 1000
"""Seeds from here on choose, those below judge."""
ONLY_HERE = ("choices", "chosen_as", "compared")
"""What a cell says of its choosing: the choices; what it has in other places while one chooses (no faults, say); and
whether a single choice is scored as well, as its score is compared with those of other cells."""
VALIDATION, TEST = "validation", "test"


def assembled(
    claim: Claim, scale: Scale, find: Callable[[Cell], Record | None]
) -> tuple[list[Record], list[Record], bool]:
    """The judged records with the scores of their choices, those that were chosen by, and whether all are there."""
    rows = claim.cells(scale)
    wanted = tuning_cells(claim, rows, scale)
    chosen = [record for cell in wanted if (record := find(cell)) is not None]
    if len(chosen) < len(wanted):
        return [], chosen, False
    cells = [settled(claim, row, scale, chosen) for row in rows]
    found = [
        scored(claim, row, cell, scale, chosen, record)
        for row, cell in zip(rows, cells, strict=True)
        if (record := find(cell)) is not None
    ]
    return found, chosen, len(found) == len(rows)


def tuning_cells(claim: Claim, cells: Sequence[Cell], scale: Scale) -> list[Cell]:
    """The cells that are measured to choose for `cells`, each once."""
    if claim.tuning is None:
        return []
    found: dict[str, Cell] = {}
    for cell in cells:
        for choice in cell.get("choices", ()) if _open(cell) else ():
            for seed in range(claim.tuning.seeds):
                own = _choosing(claim, cell, choice, scale, FIRST_SEED + seed)
                found[_text(own)] = own
    return list(found.values())


def settled(claim: Claim, cell: Cell, scale: Scale, chosen: Sequence[Record]) -> Cell:
    """A cell with the choice whose records score best; the first of those that score alike."""
    if claim.tuning is None or "choices" not in cell:
        return cell
    choices = cell["choices"]
    scores = [score(claim, cell, choice, scale, chosen) for choice in choices]
    best = choices[max(range(len(choices)), key=lambda i: scores[i])]
    return _merged(cell, best) | {"split": TEST}


def scored(claim: Claim, row: Cell, cell: Cell, scale: Scale, chosen: Sequence[Record], record: Record) -> Record:
    """A judged record with the score of its choice, by which settings may be compared before the judging."""
    if claim.tuning is None or not _open(row):
        return record
    choice = next(c for c in row["choices"] if all(cell.get(key) == value for key, value in c.items()))
    return replace(
        record, numbers={**record.numbers, VALIDATION: score(claim, row, choice, scale, chosen), "choice": choice}
    )


def score(claim: Claim, cell: Cell, choice: Cell, scale: Scale, chosen: Sequence[Record]) -> float:
    """The mean score of the runs of a choice; 0 where there is nothing to choose."""
    assert claim.tuning is not None
    if not _open(cell):
        return 0.0
    wanted = {_text(_choosing(claim, cell, choice, scale, FIRST_SEED + s)) for s in range(claim.tuning.seeds)}
    return mean([claim.tuning.score(r) for r in chosen if _text(r.cell) in wanted]).value


def _open(cell: Cell) -> bool:
    """Whether there is something to choose, or to compare before the judging."""
    return "choices" in cell and (len(cell["choices"]) > 1 or cell.get("compared", False))


def _choosing(claim: Claim, cell: Cell, choice: Cell, scale: Scale, seed: int) -> Cell:
    assert claim.tuning is not None
    own = {**_merged(cell, choice), **cell.get("chosen_as", {}), **claim.tuning.instead.get(scale, {})}
    return own | {"seed": seed, "split": VALIDATION}


def _merged(cell: Cell, choice: Cell) -> Cell:
    return {key: value for key, value in cell.items() if key not in ONLY_HERE} | dict(choice)


def _text(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)
