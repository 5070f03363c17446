"""`gradvote list`."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

import gradvote
from gradvote import algorithms, faults
from gradvote.discovery import broken, plugged
from gradvote.errors import unknown
from gradvote.lab import data, models
from gradvote.lab.data.sources import option_names as data_options
from gradvote.lab.models.names import model_options
from gradvote.lab.train.config import ENGINES, OPTIMIZERS, PLACEMENTS, WEIGHTS
from gradvote.lab.train.schedules import describe_schedule, schedule_names, schedule_options
from gradvote.sources import classes_in, keys_in

Markdown = Annotated[
    bool,
    Parameter(help="Algorithms only: a table in Markdown, with bits, trust, papers.", negative=(), show_default=False),
]
Rows = list[tuple[str, str]]
HERE = Path(gradvote.__file__).parent
NOISY = "noisy-NAME"
QUANTILES = HERE / "kernels" / "quantiles.py"


NOISES = {
    "gaussian": "normal, the papers' choice",
    "laplace": "double exponential: heavier tails, as differential privacy uses it",
    "logistic": "close to gaussian, slightly heavier tails",
    "uniform": "bounded: never more than √3·b",
}


def _described(kind: str, names: list[str], describe: Callable[[str], str]) -> Rows:
    """Names and first lines; those of an installed plugin with the package that they are of."""
    whose = {found.name: f" ({found.origin})" for found in plugged(kind)}
    return [(name, describe(name).replace("`", "") + whose.get(name, "")) for name in names]


def _parts(kind: str, base: str) -> Rows:
    """The classes of a kind of parts that have no names on the command line."""
    files = [(file, "") for file in sorted((HERE / kind).glob("*.py"))] + [(f.file, f.origin) for f in plugged(kind)]
    bases, known = [base], 0
    while len(bases) > known:  # also what inherits from another part
        known = len(bases)
        bases = [base, *(name for file, _ in files for name in classes_in(file, *bases))]
    return [
        (name, f"{told.replace('`', '')}{f' ({origin})' if origin else ''}")
        for file, origin in files
        for name, told in classes_in(file, *bases).items()
    ]


def _noises() -> Rows:
    return [
        (name, NOISES.get(name, "symmetric, unimodal, mean 0, variance 1"))
        for name in sorted(keys_in(QUANTILES, "QUANTILES"))
    ]


def _algorithms() -> Rows:
    noisy = (NOISY, "noise before any of the above, e.g. noisy-signsgd: closes the gap of median and mean")
    return [*_described("algorithms", algorithms.names(), algorithms.summary), noisy]


KINDS: dict[str, Callable[[], Rows]] = {
    "algorithms": _algorithms,
    "partitions": lambda: _described("partitions", data.partition_names(), data.describe_partition),
    "faults": lambda: _described("faults", faults.names(), faults.summary),
    "data": lambda: _described("data", data.names(), data.describe),
    "models": lambda: _described("models", models.model_names(), models.describe_model),
    "noises": _noises,
    "schedules": lambda: _described("schedules", schedule_names(), describe_schedule),
    "transforms": lambda: _parts("transforms", "Transform"),
    "codecs": lambda: _parts("codecs", "Codec"),
    "aggregators": lambda: _parts("aggregators", "Aggregator"),
    "optimizers": lambda: list(OPTIMIZERS.items()),
    "weights": lambda: list(WEIGHTS.items()),
    "engines": lambda: list(ENGINES.items()),
    "placements": lambda: list(PLACEMENTS.items()),
}

OPTIONS: dict[str, Callable[[str], list[str]]] = {
    "algorithms": lambda name: _options_of_noisy() if name == NOISY else algorithms.option_names(name),
    "partitions": data.partition_options,
    "faults": faults.option_names,
    "data": data_options,
    "models": model_options,
    "noises": lambda _: ["std", "position"],
    "schedules": schedule_options,
}
"""What may follow a name on the command line, as NAME:key=value; all other kinds take nothing there."""


def _options_of_noisy() -> list[str]:
    plain = algorithms.option_names("signsgd")
    return [option for option in algorithms.option_names("noisy-signsgd") if option not in plain]


def options_told(kind: str, name: str) -> str:
    """A line about the options of a part; empty where it has none."""
    found: list[str] = []
    with contextlib.suppress(
        Exception
    ):  # a plugin that cannot be imported: said where it is used, and the list goes on
        found = OPTIONS[kind](name) if kind in OPTIONS else []
    more = ", and NAME's" if name == NOISY else ""
    return f"options: {', '.join(found)}{more}" if found else ""


def register(app: App) -> None:
    """Add the command."""

    @app.command(name="list")
    def list_(kind: str | None = None, *, table: Markdown = False) -> None:
        """What there is: algorithms, partitions, faults, data, models, noises, schedules, transforms, codecs,
        aggregators, optimizers, weights, engines, placements; those of installed plugins with their package.

        Options are given as NAME:key=value,key=value.

        Parameters
        ----------
        kind
            One of these kinds; all of them by default.
        """
        if kind is not None and kind not in KINDS:
            raise unknown("kind of thing to list", kind, KINDS)
        if table:
            if kind != "algorithms":
                raise ValueError("There is a table of algorithms only: `gradvote list algorithms --table`.")
            print(algorithms.table())
            return
        grid = Table(box=None, show_header=False, padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column()
        for name in [kind] if kind else KINDS:
            grid.add_row(f"[bold not cyan]{name}[/]", "")
            for part, text in KINDS[name]():
                told = options_told(name, part)
                grid.add_row(part, f"{text}\n[dim]{told}[/]" if told else text)
        console = Console(highlight=False)
        console.print(grid)
        for problem in broken():
            if kind in (None, problem.kind) or not problem.kind:
                console.print(problem.sentence, markup=False)
