"""The comparison table on the console (extra `cli`)."""

from collections.abc import Sequence

from gradvote.errors import MissingExtra
from gradvote.lab.report.columns import COLUMNS, status
from gradvote.lab.report.records import Run, unique_labels

try:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    raise MissingExtra("rich", "cli") from error

_STATUS_STYLE = {"finished": "green", "diverged": "red", "interrupted": "yellow", "running": "cyan"}


def table(runs: Sequence[Run]) -> Table:
    """One row per run, the columns of the HTML report; the best figure of each column is bold and green."""
    labels = unique_labels(runs)
    best = [column.best_runs(runs) for column in COLUMNS]
    result = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=0)
    result.add_column("Algorithm", overflow="fold", no_wrap=max(map(len, labels), default=0) <= 16)
    for column in COLUMNS:
        result.add_column(column.short, justify="right", no_wrap=True)
    result.add_column("Status")
    for place, (label, run) in enumerate(zip(labels, runs, strict=True)):
        cells = [
            Text(column.text(run), style="bold green" if place in winners else "")
            for column, winners in zip(COLUMNS, best, strict=True)
        ]
        result.add_row(Text(label), *cells, Text(status(run), style=_STATUS_STYLE.get(run.status, "")))
    return result
