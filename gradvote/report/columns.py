"""The columns of the comparison table: one list that the HTML report and the console both follow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from gradvote.report import format as show
from gradvote.report.records import Run


@dataclass(frozen=True)
class Column:
    """One figure per run: how it is read, how it is shown, which is best, and whether it is a share of 1."""

    title: str
    help: str
    value: Callable[[Run], float | None]
    show: Callable[[float | None], str]
    best: Literal["max", "min"] | None = None
    share: bool = False

    def text(self, run: Run) -> str:
        return self.show(self.value(run))

    def best_runs(self, runs: Sequence[Run]) -> frozenset[int]:
        """The places of the finished runs that read best as shown (ties included); none if all of them read alike."""
        texts = {i: self.text(run) for i, run in enumerate(runs) if run.status == "finished"}
        values = {i: v for i in texts if (v := self.value(runs[i])) is not None and math.isfinite(v)}
        if self.best is None or len({texts[i] for i in values}) < 2:
            return frozenset()
        choose = max if self.best == "max" else min
        winner = choose(values, key=lambda i: values[i])
        return frozenset(i for i in values if texts[i] == texts[winner])


def final(key: str) -> Callable[[Run], float | None]:
    """The reader of the last value measured under `key`."""
    return lambda run: run.final(key)


COLUMNS = (
    Column(
        "Test accuracy",
        "share of the test set classified rightly",
        final("test_accuracy"),
        show.fraction,
        "max",
        True,
    ),
    Column(
        "Gradient norm",
        "norm of the gradient of the mean objective",
        final("grad_norm"),
        show.scientific,
        "min",
    ),
    Column(
        "Median–mean gap",
        "distance between the median and the mean of the workers' gradients",
        final("median_mean_gap"),
        show.scientific,
        "min",
    ),
    Column("Bits up", "per coordinate, worker and step, measured", final("bits_up"), show.bits, "min"),
    Column("Bits down", "per coordinate, worker and step, measured", final("bits_down"), show.bits, "min"),
    Column("Total sent", "bytes up and down, all workers", lambda run: run.total_bytes, show.size, "min"),
    Column("Time", "seconds from the first step to the last record", final("seconds"), show.duration, "min"),
    Column(
        "Abstentions",
        "blocks a worker could not vote on, as they were not finite",
        final("abstentions"),
        show.count,
    ),
)


def status(run: Run) -> str:
    """The last column: how the run ended, and where if it did not finish."""
    return show.status(run.status, run.stopped_at)
