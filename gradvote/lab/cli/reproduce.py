"""`gradvote reproduce`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradvote.lab.data import DataNotFoundError

if TYPE_CHECKING:
    from gradvote.lab.experiments.findings import Finding

COLOURS = {"reproduced": "green", "reproduced in kind": "yellow", "undecided": "blue", "not reproduced": "red"}


def register(app: App) -> None:
    """Add the command."""
    app.command(reproduce, name="reproduce")


def reproduce(
    claims: Annotated[
        tuple[str, ...], Parameter(help="Claims, or all; none: as --list.", negative=(), show_default=False)
    ] = (),
    /,
    *,
    list_: Annotated[
        bool, Parameter(name="--list", help="Say which claims there are.", negative=(), show_default=False)
    ] = False,
    scale: Annotated[str, Parameter(help="quick (minutes), medium (hours) or paper (full sizes).")] = "quick",
    out: Annotated[Path, Parameter(help="Folder of the records and the page.")] = Path("runs/reproduce"),
    docs: Annotated[Path | None, Parameter(help="Folder in which to write reproductions.md and its figures.")] = None,
    from_: Annotated[
        Path | None, Parameter(name="--from", help="Such a folder: what has a record there is not measured again.")
    ] = None,
    fresh: Annotated[
        bool, Parameter(help="Measure again what was measured before.", negative=(), show_default=False)
    ] = False,
    processes: Annotated[int, Parameter(help="Measurements at the same time.")] = 2,
    threads: Annotated[int, Parameter(help="Threads of each.")] = 1,
) -> int:
    """Run the papers' figures, theorems and tables, and say which of their claims hold.

    What was measured is kept: after Ctrl-C the same command goes on where it was. With --docs it is written there, too,
    and another machine goes on from it with --from.
    """
    import torch  # --help works at once

    from gradvote.lab.cli.progress import Shown  # --help works at once
    from gradvote.lab.cli.showing import check_threads  # --help works at once
    from gradvote.lab.experiments import session  # --help works without the extras report and theory
    from gradvote.lab.experiments.claim import SCALES  # --help works without the extras report and theory
    from gradvote.lab.experiments.crew import Crew  # --help works without the extras report and theory

    console = Console(highlight=False)
    if list_ or not claims:
        console.print(_listing(session.catalogue()))
        return 0
    for option, value in (("threads", threads), ("processes", processes)):
        if value < 1:
            raise ValueError(f"{option} must be at least 1; got {value}.")
    check_threads(threads)
    torch.set_num_threads(threads)
    size, findings = session.scale_named(scale), []
    chosen = session.expand(claims, size)
    if fresh and from_ is not None:
        raise ValueError("--fresh measures again what --from would take. Leave one of them out.")

    def keep() -> None:
        if docs is not None:
            for name in chosen:
                session.keep_part(name, size, out, docs)

    with _told(console, keep), Crew(processes) as crew, Shown(console) as shown:
        for name, job in [(name, session.begin(name, size, out, fresh, crew, from_)) for name in chosen]:
            try:
                findings.append(session.end(name, size, crew, job, shown.show))
            except DataNotFoundError as error:
                if session.ALL not in claims:
                    raise
                console.print(f"[yellow]{name} was left out:[/] {escape(str(error))}")
                continue
            console.print(_verdicts(findings[-1]))
    if docs is not None:
        here = {(f.name, f.scale) for f in findings}
        others = [(name, other) for name, _ in session.catalogue() for other in SCALES if (name, other) not in here]
        known = (session.measured(name, other, out, docs) for name, other in others)
        findings = sorted([*findings, *filter(None, known)], key=lambda f: (f.name, f.scale != "medium"))
    _write(findings, out, docs, console)
    return 0


@contextmanager
def _told(console: Console, keep: Callable[[], None]) -> Iterator[None]:
    """Whatever ends it early, what was measured is kept; who stops it is told so."""
    try:
        yield
    except BaseException as error:
        try:
            keep()
        except ValueError as broken:  # what ended it is the news
            console.print(f"[yellow]Not written to --docs:[/] {escape(str(broken))}")
        if isinstance(error, KeyboardInterrupt):
            console.print("What was measured is kept; the same command goes on from here.")
        raise


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
    from gradvote.lab.experiments.document import write_document  # --help works without the extra report
    from gradvote.lab.experiments.page import write_page  # --help works without the extra report

    if not findings:
        return
    console.print(f"Page: {write_page(findings, out / 'report.html')}", soft_wrap=True)
    if docs is not None:
        console.print(f"Document: {write_document(findings, docs)}", soft_wrap=True)
