"""What a reproduction is: cells that are measured one by one, a judgement and a picture of the records.

A cell is one configuration, plain enough for JSON; measuring it gives numbers, plain enough for JSON. The judgement and
the picture are functions of the records alone, so both can be made again without measuring again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from gradvote.errors import MissingExtra

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtra("matplotlib", "report") from error

Scale = Literal["quick", "paper"]
SCALES: tuple[Scale, ...] = ("quick", "paper")
Cell = dict[str, Any]
Numbers = dict[str, Any]


class Outcome(StrEnum):
    """How a claim fared; "in kind": its substance, at another size or on other data, or all but a detail."""

    REPRODUCED = "reproduced"
    IN_KIND = "reproduced in kind"
    NOT = "not reproduced"


@dataclass(frozen=True)
class Verdict:
    """One sentence of a paper, what became of it, and the numbers that say so."""

    statement: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Record:
    """A measured cell and its processor time in seconds; `record["key"]` finds a setting or a number."""

    cell: Cell
    numbers: Numbers
    seconds: float

    def __getitem__(self, key: str) -> Any:
        return self.numbers[key] if key in self.numbers else self.cell[key]


@dataclass(frozen=True)
class Bench:
    """Where a cell may keep what it needs to be resumed, and how it says how far it is."""

    folder: Path
    tell: Callable[[int, int, str], None] = lambda step, steps, note: None


@dataclass(frozen=True)
class Claim:
    """A claim of a paper that can be run.

    `cells(scale)` lists what is measured, `measure(cell, bench)` measures one, `judge` and `draw` look at all records.
    Cells with `together` that differ in seed and rate alone are measured in one go by `measure_together`, which is much
    faster but cannot be resumed half way. `needs` names the data sets that must be there.
    """

    title: str
    source: str
    method: str
    cells: Callable[[Scale], list[Cell]]
    measure: Callable[[Cell, Bench], Numbers]
    judge: Callable[[Sequence[Record]], list[Verdict]]
    draw: Callable[[Sequence[Record]], Figure]
    measure_together: Callable[[Sequence[Cell], Bench], list[Numbers]] | None = None
    needs: tuple[str, ...] = ()


def verdict(statement: str, holds: bool, reason: str, *, at_best: Outcome = Outcome.REPRODUCED) -> Verdict:
    """A verdict: `at_best` if it holds, "not reproduced" otherwise."""
    return Verdict(statement, at_best if holds else Outcome.NOT, reason)


def where(records: Sequence[Record], **wanted: Any) -> list[Record]:
    """The records whose cells have these settings."""
    return [r for r in records if all(r.cell.get(key) == value for key, value in wanted.items())]


def values(records: Sequence[Record], key: str) -> list[Any]:
    """The different values of a setting, in order of appearance."""
    return list(dict.fromkeys(r[key] for r in records))
