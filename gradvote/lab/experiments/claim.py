"""What a reproduction is: cells that are measured one by one, a judgement and a picture of the records.

A cell is one configuration, plain enough for JSON; measuring it gives numbers, plain enough for JSON. The judgement and
the picture are functions of the records alone, so both can be made again without measuring again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from gradvote.errors import MissingExtra
from gradvote.lab.experiments.statistics import Check

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtra("matplotlib", "report") from error

Scale = Literal["quick", "medium", "paper"]
SCALES: tuple[Scale, ...] = ("quick", "medium", "paper")
Cell = dict[str, Any]
Numbers = dict[str, Any]


class Outcome(StrEnum):
    """How a claim fared; "in kind": its substance, at another size or on other data, or all but a detail.

    "undecided": an interval lies on both sides of a threshold.
    """

    REPRODUCED = "reproduced"
    IN_KIND = "reproduced in kind"
    UNDECIDED = "undecided"
    NOT = "not reproduced"


@dataclass(frozen=True)
class Verdict:
    """One sentence of a paper, what became of it, and the numbers that say so.

    `paper` is the published number, `ours` the estimate that decided, and its threshold; both are short. `decided` says
    what was compared.
    """

    statement: str
    outcome: Outcome
    reason: str
    paper: str = ""
    ours: str = ""
    decided: str = ""


@dataclass(frozen=True)
class Record:
    """A measured cell and its processor time in seconds; `record["key"]` finds a setting or a number.

    `made` says on what it was measured.
    """

    cell: Cell
    numbers: Numbers
    seconds: float
    made: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.numbers[key] if key in self.numbers else self.cell[key]


@dataclass(frozen=True)
class Bench:
    """Where a cell may keep what it needs to be resumed, and how it says how far it is."""

    folder: Path
    tell: Callable[[int, int, str], None] = lambda step, steps, note: None


@dataclass(frozen=True)
class Tuning:
    """How a claim makes its choices (rates, b, c): by runs of their own, on samples that judge nothing.

    A cell with `choices`, a list of settings to be merged into it, is measured once for each choice with `seeds` seeds
    that no judged cell has, on the split `validation`; `score` of those records, the higher the better, says which
    choice the cell gets on the split `test`. `instead` replaces settings of the choosing runs (fewer steps) by scale.
    """

    score: Callable[[Record], float]
    seeds: int = 1
    instead: Mapping[Scale, Mapping[str, Any]] = field(default_factory=dict)


Null = Callable[[Sequence[Record]], Sequence[Record]]
"""From the records of a claim to those of a method that does nothing of what the claim says."""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper that can be run.

    `cells(scale)` lists what is measured, `measure(cell, bench)` measures one, `judge` and `draw` look at all records.
    Cells with `together` that differ in seed and rate alone are measured in one go by `measure_together`, which is much
    faster. `needs` names the data sets that must be there.

    `nulls` are methods that the judgement must refuse: each statement is "not reproduced" for one of them at least,
    but for those that `blind` names (by their first words) with the reason why no null fails them. `tuning` says how
    choices are made; a claim that trains and chooses nothing says why in `untuned`. `pictures` are further ones, by
    name. `pace` is about how many seconds one step of a run takes at medium scale, on one thread.
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
    nulls: Mapping[str, Null] = field(default_factory=dict)
    blind: Mapping[str, str] = field(default_factory=dict)
    tuning: Tuning | None = None
    untuned: str = ""
    scales: tuple[Scale, ...] = ("quick", "paper")
    pace: float = 0.0
    pictures: Mapping[str, Callable[[Sequence[Record]], Figure]] = field(default_factory=dict)

    def sees(self, statement: str) -> str:
        """Why no null fails a statement; empty where one must."""
        return next((why for words, why in self.blind.items() if statement.startswith(words)), "")


def verdict(
    statement: str,
    checks: Check | Sequence[Check],
    reason: str,
    *,
    at_best: Outcome = Outcome.REPRODUCED,
    paper: str = "",
) -> Verdict:
    """`at_best` where all checks hold, "not reproduced" where one fails, else "undecided", with what would decide."""
    each = [checks] if isinstance(checks, Check) else list(checks)
    held = [check.holds for check in each]
    open_ones = [check for check, holds in zip(each, held, strict=True) if holds is None]
    outcome = at_best if all(held) else Outcome.NOT if False in held else Outcome.UNDECIDED
    if outcome is Outcome.UNDECIDED:
        reason = f"{reason}. Undecided: {'; '.join(check.power for check in open_ones)}"
    deciding = _deciding(each)
    return Verdict(statement, outcome, reason, paper, deciding.short, str(deciding))


def _deciding(checks: Sequence[Check]) -> Check:
    """The one that fails, or is open, or is the nearest to it."""
    order = {False: 0, None: 1, True: 2}
    return min(checks, key=lambda check: (order[check.holds], check.margin))


def where(records: Sequence[Record], **wanted: Any) -> list[Record]:
    """The records whose cells have these settings."""
    return [r for r in records if all(r.cell.get(key) == value for key, value in wanted.items())]


def values(records: Sequence[Record], key: str) -> list[Any]:
    """The different values of a setting, in order of appearance."""
    return list(dict.fromkeys(r[key] for r in records))
