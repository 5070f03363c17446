"""The columns of the comparison table: one list that the HTML report and the console both follow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from gradvote.lab.report import format as show
from gradvote.lab.report.records import Run


@dataclass(frozen=True)
class Column:
    """One figure per run: its heading (a short one for the console), how it is read, shown and judged; `share` of 1."""

    title: str
    short: str
    help: str
    value: Callable[[Run], float | None]
    show: Callable[[float | None], str]
    best: Literal["max", "min"] | None = None
    share: bool = False

    def text(self, run: Run) -> str:
        return self.show(self.value(run))

    def best_runs(self, runs: Sequence[Run]) -> frozenset[int]:
        """The places of the finished runs that read best as shown, ties included; none if over half of them do."""
        finished = {i: self.value(run) for i, run in enumerate(runs) if run.status == "finished"}
        values = {i: value for i, value in finished.items() if value is not None and math.isfinite(value)}
        if self.best is None or not values:
            return frozenset()
        best = self.show(max(values.values()) if self.best == "max" else min(values.values()))
        winners = frozenset(i for i, value in values.items() if self.show(value) == best)
        return winners if 2 * len(winners) <= len(values) else frozenset()


def final(key: str) -> Callable[[Run], float | None]:
    """The reader of the last value measured under `key`."""
    return lambda run: run.final(key)


COLUMNS = (
    Column(
        "Test accuracy",
        "Test\nacc.",
        "share of the test set classified rightly",
        final("test_accuracy"),
        show.fraction,
        "max",
        True,
    ),
    Column(
        "Gradient norm",
        "Grad.\nnorm",
        "norm of the gradient of the mean objective",
        final("grad_norm"),
        show.scientific,
        "min",
    ),
    Column(
        "Median–mean gap",
        "Median–\nmean",
        "distance between the median and the mean of the workers' gradients",
        final("median_mean_gap"),
        show.scientific,
        "min",
    ),
    Column("Bits up", "Bits\nup", "per coordinate, worker and step, measured", final("bits_up"), show.bits, "min"),
    Column(
        "Bits down", "Bits\ndown", "per coordinate, worker and step, measured", final("bits_down"), show.bits, "min"
    ),
    Column(
        "Total sent", "Total\nsent", "bytes up and down, all workers", lambda run: run.total_bytes, show.size, "min"
    ),
    Column("Time", "Time", "seconds from the first step to the last record", final("seconds"), show.duration, "min"),
    Column(
        "Abstentions",
        "Abst.",
        "blocks a worker could not vote on, as they were not finite",
        final("abstentions"),
        show.count,
    ),
)


def status(run: Run) -> str:
    """The last column: how the run ended, and where if it did not finish."""
    return show.status(run.status, run.stopped_at)
