"""`gradvote bench`: this machine's figures, each verified before it is printed."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from gradvote import quantities

bench = App(name="bench", help="Measure this machine; a figure is printed only when its result was checked.")


def register(app: App) -> None:
    """Add the commands."""
    app.command(bench)


@bench.command
def exchange(
    *,
    params: Annotated[str, Parameter(help="Coordinates of the gradient, for instance 25.6M.")] = "25.6M",
    ranks: Annotated[int, Parameter(help="Processes on this machine.")] = 4,
    repeats: Annotated[int, Parameter(help="Repeats; the fastest counts.")] = 5,
    out: Annotated[Path | None, Parameter(help="Write the figures to this JSON file, too.")] = None,
) -> None:
    """One exchange of a gradient between local processes, against all-reduces.

    For links of a stated speed see scripts/bench-links.
    """
    from gradvote.bench.exchange import run_locally  # noqa: PLC0415  # costs a second to import
    from gradvote.bench.report import table  # noqa: PLC0415

    console = Console(highlight=False)
    with console.status(f"Exchanging between {ranks} processes"):
        results = run_locally(quantities.count(params), ranks, repeats=repeats)
    console.print(table(results))
    if out is not None:
        out.write_text(json.dumps([vars(r) for r in results], indent=1), encoding="utf-8")
        console.print(f"Figures: {out}")
