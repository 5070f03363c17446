"""`gradvote bench`: this machine's figures, each verified before it is printed."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from gradvote.errors import unknown
from gradvote.lab import quantities
from gradvote.lab.cli.showing import check_threads, use_threads
from gradvote.lab.files import check_results, to_json, write_text

PLOTS = ("kernels-sizes.png", "kernels-workers.png")
bench = App(name="bench", help="Measure this machine; a figure is printed only when its result was checked.")


def register(app: App) -> None:
    """Add the commands."""
    app.command(bench)


@bench.command
def exchange(
    *,
    params: Annotated[str, Parameter(help="Coordinates of the gradient, for instance 25.6M.")] = "25.6M",
    ranks: Annotated[int, Parameter(help="Processes on this machine.")] = 4,
    names: Annotated[
        tuple[str, ...],
        Parameter(
            help="Who takes part, for instance fp32 signsgd: all-reduces (fp32, bf16, fp16), power-sgd (torch's hook, "
            "rank 1), signsgd, dropsignsgd, dropsignsgd-64 (masks in units of 64), dist-ef-sgdm. All by default.",
            negative=(),
            show_default=False,
        ),
    ] = (),
    repeats: Annotated[int, Parameter(help="Repeats; the fastest counts.")] = 5,
    out: Annotated[Path | None, Parameter(help="Write the figures to this JSON file, too.")] = None,
) -> None:
    """Seconds and bytes of one exchange of a gradient between processes of this machine, against all-reduces.

    Each process encodes its gradient, votes on its share and decodes the decision into the gradient, over gloo and
    loopback; results are compared with the simulation's before a figure is shown. Loopback is the fastest link there
    is, so this is the hardest case for compression: for links of a stated speed see scripts/bench-links, and for a
    prediction `gradvote plan`. "against fp32" is how many times as fast as the float32 all-reduce; MB are those that
    one process sends. Takes half a minute and 2 GB at the default size.
    """
    d = quantities.count(params)
    if out is not None:
        check_results(out, "bytes_sent")
    from gradvote.lab.bench import report
    from gradvote.lab.bench.exchange import NAMES, run_locally

    for name in names:
        if name not in NAMES:
            raise unknown("contestant", name, NAMES)
    console = Console(highlight=False)
    with console.status(f"Exchanging between {ranks} processes"):
        results = run_locally(d, ranks, names or NAMES, repeats)
    console.print(report.table(results))
    if out is not None:
        write_text(out, to_json([vars(r) for r in results], indent=1))
        console.print(f"Figures: {out}")


@bench.command
def kernels(
    *,
    out: Annotated[Path, Parameter(help="Folder for kernels.json and the plots.")] = Path("runs/bench-kernels"),
    sizes: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            help="Coordinates of the sweep: 10k 1M 10M. By default 10³ to 10⁸.",
            negative=(),
            show_default=False,
        ),
    ] = (),
    threads: Annotated[int | None, Parameter(help="Threads, of ours and of the rivals.")] = None,
    quick: Annotated[
        bool, Parameter(help="A million coordinates at most: a minute.", negative="", show_default=False)
    ] = False,
) -> None:
    """Every CPU kernel against what a user would write instead, and against the speed of memory.

    Signs, noisy signs, votes, medians, DropSignSGD's step and unpacking, from 10³ to 10⁸ coordinates and from 1 to 33
    workers: a table, two plots and JSON with the machine and the versions. It takes ten minutes or more, and 12 GB.
    """
    check_threads(threads)
    _check_kernels(out)
    chosen = [quantities.count(size) for size in sizes] or None
    use_threads(threads)
    from gradvote.lab.bench import kernel_report
    from gradvote.lab.bench.kernels import load, run_kernels

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
    console.print(kernel_report.heading(result), kernel_report.table(found), sep="\n")
    for name, line in result["growth"].items():
        start, slope = 1e6 * line["start"], 1e9 * line["per_coordinate"]
        console.print(f"Time of {name}: {start:.0f} µs + {slope:.3f} ns · d, within {line['factor']:.1f} times")
    if result["left_out"]:
        console.print(f"Left out, as memory is too small: {', '.join(result['left_out'])}")
    console.print("Written:", out / "kernels.json", *kernel_report.draw(found, kernel_report.heading(result), out))


def _check_kernels(folder: Path) -> None:
    """Raise ValueError where the folder holds files of those names that this command has not made."""
    figures, plots = folder / "kernels.json", [folder / name for name in PLOTS]
    check_results(figures, "bandwidth")
    foreign = [plot for plot in plots if plot.exists() and not figures.exists()]
    if foreign:
        raise ValueError(f"{foreign[0]} is there without a kernels.json, so it is not replaced. Choose another --out.")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", table_column=Column(min_width=34)),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
