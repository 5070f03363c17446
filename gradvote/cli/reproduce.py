"""`gradvote reproduce`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gradvote.data import DataNotFoundError

if TYPE_CHECKING:
    from gradvote.experiments.findings import Finding

COLOURS = {"reproduced": "green", "reproduced in kind": "yellow", "not reproduced": "red"}


def register(app: App) -> None:
    """Add the command."""
    app.command(reproduce, name="reproduce")


def reproduce(
    claims: Annotated[tuple[str, ...], Parameter(help="Claims, or all.", negative=())] = (),
    /,
    *,
    list_: Annotated[bool, Parameter(name="--list", help="Say which claims there are.", negative=())] = False,
    scale: Annotated[str, Parameter(help="quick (minutes), or paper (full sizes, resumable).")] = "quick",
    out: Annotated[Path, Parameter(help="Folder of the records and the page.")] = Path("runs/reproduce"),
    docs: Annotated[Path | None, Parameter(help="Folder in which to write reproductions.md and its figures.")] = None,
    fresh: Annotated[bool, Parameter(help="Measure again what was measured before.", negative=())] = False,
    processes: Annotated[int, Parameter(help="Measurements at the same time.")] = 2,
    threads: Annotated[int, Parameter(help="Threads of each.")] = 1,
) -> int:
    """Run the papers' figures, theorems and tables, and say which of their claims hold."""
    import torch  # --help works at once

    from gradvote.experiments import session  # --help works without the extras report and theory
    from gradvote.experiments.crew import Crew  # --help works without the extras report and theory

    console = Console(highlight=False)
    if list_ or not claims:
        console.print(_listing(session.catalogue()))
        return 0
    for option, value in (("threads", threads), ("processes", processes)):
        if value < 1:
            raise ValueError(f"{option} must be at least 1; got {value}.")
    torch.set_num_threads(threads)
    chosen, size, findings = session.expand(claims), session.scale_named(scale), []
    with Crew(processes) as crew:
        for name, job in [(name, session.begin(name, size, out, fresh, crew)) for name in chosen]:
            try:
                with _Bar(name, console) as bar:
                    findings.append(session.end(name, size, crew, job, bar.show))
            except DataNotFoundError as error:
                if session.ALL not in claims:
                    raise
                console.print(f"[yellow]{name} was left out:[/] {escape(str(error))}")
                continue
            console.print(_verdicts(findings[-1]))
    _write(findings, out, docs, console)
    return 0


class _Bar:
    """A progress bar over the cells of a claim."""

    def __init__(self, name: str, console: Console) -> None:
        columns = (SpinnerColumn(), BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.description}"))
        self.name, self.progress = name, Progress(*columns, console=console)
        self.task = self.progress.add_task(name)

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, done: int, total: int, text: str) -> None:
        said = f"{self.name}: {text}" if text else self.name
        self.progress.update(self.task, completed=done, total=total, description=escape(said))


def _listing(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, about in rows:
        table.add_row(name, escape(about))
    return table


def _verdicts(finding: "Finding") -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1), title=escape(finding.claim.title), title_justify="left")
    table.add_column(no_wrap=True)
    for verdict in finding.verdicts:
        colour = COLOURS[verdict.outcome]
        table.add_row(f"[{colour}]{verdict.outcome}[/]", escape(verdict.statement), f"[dim]{escape(verdict.reason)}[/]")
    return table


def _write(findings: "Sequence[Finding]", out: Path, docs: Path | None, console: Console) -> None:
    from gradvote.experiments.document import write_document  # --help works without the extra report
    from gradvote.experiments.page import write_page  # --help works without the extra report

    if not findings:
        return
    console.print(f"Page: {write_page(findings, out / 'report.html')}", soft_wrap=True)
    if docs is not None:
        console.print(f"Document: {write_document(findings, docs)}", soft_wrap=True)
