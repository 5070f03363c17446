"""`gradvote list`."""

from collections.abc import Callable
from pathlib import Path

from cyclopts import App
from rich.console import Console
from rich.table import Table

import gradvote
from gradvote import algorithms, data, faults, models
from gradvote.discovery import keys_in
from gradvote.errors import unknown
from gradvote.train.config import ENGINES, OPTIMIZERS, PLACEMENTS, WEIGHTS
from gradvote.train.schedules import describe_schedule, schedule_names

Rows = list[tuple[str, str]]
QUANTILES = Path(gradvote.__file__).parent / "kernels" / "quantiles.py"


NOISES = {
    "gaussian": "normal, the papers' choice",
    "laplace": "double exponential: heavier tails, as differential privacy uses it",
    "logistic": "close to gaussian, slightly heavier tails",
    "uniform": "bounded: never more than √3·b",
}


def _described(names: list[str], describe: Callable[[str], str]) -> Rows:
    return [(name, describe(name).replace("`", "")) for name in names]


def _noises() -> Rows:
    return [
        (name, NOISES.get(name, "symmetric, unimodal, mean 0, variance 1"))
        for name in sorted(keys_in(QUANTILES, "QUANTILES"))
    ]


def _algorithms() -> Rows:
    noisy = ("noisy-NAME", "noise before any of the above, e.g. noisy-signsgd: closes the gap of median and mean")
    return [*_described(algorithms.names(), algorithms.summary), noisy]


KINDS: dict[str, Callable[[], Rows]] = {
    "algorithms": _algorithms,
    "partitions": lambda: _described(data.partition_names(), data.describe_partition),
    "faults": lambda: _described(faults.names(), faults.summary),
    "data": lambda: _described(data.names(), data.describe),
    "models": lambda: _described(models.model_names(), models.describe_model),
    "noises": _noises,
    "schedules": lambda: _described(schedule_names(), describe_schedule),
    "optimizers": lambda: list(OPTIMIZERS.items()),
    "weights": lambda: list(WEIGHTS.items()),
    "engines": lambda: list(ENGINES.items()),
    "placements": lambda: list(PLACEMENTS.items()),
}


def register(app: App) -> None:
    """Add the command."""

    @app.command(name="list")
    def list_(kind: str | None = None) -> None:
        """What there is: algorithms, partitions, faults, data, models, noises, schedules, optimizers, weights, engines,
        placements.

        Parameters
        ----------
        kind
            One of these kinds; all of them by default.
        """
        if kind is not None and kind not in KINDS:
            raise unknown("kind of thing to list", kind, KINDS)
        table = Table(box=None, show_header=False, padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column()
        for name in [kind] if kind else KINDS:
            table.add_row(f"[bold not cyan]{name}[/]", "")
            for row in KINDS[name]():
                table.add_row(*row)
        Console(highlight=False).print(table)
