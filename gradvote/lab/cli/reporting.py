"""`gradvote report`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from gradvote.lab.cli.showing import write
from gradvote.lab.files import check_page
from gradvote.lab.report import Scene, load_run
from gradvote.lab.report.console import table


def register(app: App) -> None:
    """Add the command."""
    app.command(report, name="report")


def report(
    runs: Annotated[tuple[Path, ...], Parameter(help="Run folders.", negative=())],
    /,
    *,
    out: Annotated[Path, Parameter(help="The HTML file to write.")] = Path("report.html"),
    title: Annotated[str, Parameter(help="Its heading.")] = "gradvote runs",
) -> None:
    """Show runs side by side: a table here, and one self-contained HTML file."""
    check_page(out)
    loaded = tuple(load_run(folder) for folder in runs)
    console = Console(highlight=False)
    console.print(table(loaded))
    write([Scene(title, "", loaded)], out, title, console)
