"""`gradvote bench`: this machine's figures, each verified before it is printed."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

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


@bench.command
def kernels(
    *,
    out: Annotated[Path, Parameter(help="Folder for kernels.json and the plots.")] = Path("runs/bench-kernels"),
    sizes: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, help="Coordinates of the sweep: 10k 1M 10M.")
    ] = (),
    threads: Annotated[int | None, Parameter(help="Threads, of ours and of the rivals.")] = None,
    quick: Annotated[bool, Parameter(help="A million coordinates at most: half a minute.", negative="")] = False,
) -> None:
    """Every CPU kernel against what a user would write instead, and against the speed of memory.

    Signs, noisy signs, votes, medians, DropSignSGD's step and unpacking, from 10³ to 10⁸ coordinates and from 1 to 33
    workers: a table, two plots and JSON with the machine and the versions. All of it takes about ten minutes and 12 GB.
    """
    import torch  # noqa: PLC0415  # costs a second to import

    from gradvote.bench.kernel_report import draw, heading, table  # noqa: PLC0415
    from gradvote.bench.kernels import load, run_kernels  # noqa: PLC0415

    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1; got {threads}.")
        torch.set_num_threads(threads)
    chosen = [quantities.count(size) for size in sizes] or None
    console = Console(highlight=False)
    with _progress(console) as bar:
        task = bar.add_task("memory", total=None)
        result = run_kernels(
            out,
            chosen,
            quick,
            lambda name, done, total: bar.update(task, description=name, completed=done, total=total),
        )
    found = load(out / "kernels.json")
    console.print(heading(result), table(found), sep="\n")
    growth = ", ".join(f"{name} ~ d^{e:.2f}" for name, e in result["exponents"].items())
    console.print(f"Growth: {growth}" if growth else "Growth: needs two sizes from 1M on.")
    if result["left_out"]:
        console.print(f"Left out, as memory is too small: {', '.join(result['left_out'])}")
    console.print("Written:", out / "kernels.json", *draw(found, heading(result), out))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", table_column=Column(min_width=34)),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
