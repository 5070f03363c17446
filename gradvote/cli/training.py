"""`gradvote train` and `gradvote compare`."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from gradvote.cli.options import DEFAULTS, Options, config_of, parse_spec
from gradvote.report import Scene, load_run
from gradvote.report.console import table
from gradvote.train import Config, Run, reopen, start
from gradvote.train import Progress as Callback

Out = Annotated[Path, Parameter(group="Output", help="Folder of the runs' folders.")]
Name = Annotated[str | None, Parameter(group="Output", help="Name of the run; default: the algorithm's.")]
Overwrite = Annotated[bool, Parameter(group="Output", help="Replace a run of that name.", negative=())]
Board = Annotated[bool, Parameter(group="Output", help="Write TensorBoard event files too.", negative=())]
Resume = Annotated[Path | None, Parameter(group="Output", help="Continue the run in this folder, bit for bit.")]
Algorithm = Annotated[
    str | None, Parameter(group="Algorithm", help="NAME, or NAME:key=value,...; see `gradvote list algorithms`.")
]


def register(app: App) -> None:
    """Add the commands."""
    app.command(train_command, name="train")
    app.command(compare_command, name="compare")


def train_command(
    *,
    options: Options = DEFAULTS,
    algorithm: Algorithm = None,
    out: Out = Path("runs"),
    name: Name = None,
    overwrite: Overwrite = False,
    tensorboard: Board = False,
    resume: Resume = None,
) -> int:
    """Train one model over simulated workers with one algorithm."""
    set_threads(options.threads)
    console = Console(highlight=False)
    if resume is not None:
        return _resume(options, algorithm, resume, console, tensorboard)
    config = config_of(options, algorithm or "signsgd", strict=True)
    folder = out / (name or config.algorithm)
    run = run_one(config, folder, console, overwrite=overwrite, tensorboard=tensorboard)
    return finish([run], console, folder, f"{config.algorithm} on {config.data}")


def compare_command(
    algorithms: Annotated[tuple[str, ...], Parameter(help="NAME or NAME:key=value,lr=...; two or more.", negative=())],
    /,
    *,
    options: Options = DEFAULTS,
    out: Out = Path("runs"),
    name: Name = None,
    overwrite: Overwrite = False,
    tensorboard: Board = False,
) -> int:
    """Train with several algorithms on the same data and show them side by side."""
    set_threads(options.threads)
    console = Console(highlight=False)
    configs = [config_of(options, spec, strict=False) for spec in algorithms]
    labels = unique([parse_spec(spec)[0] for spec in algorithms], algorithms)
    folder = out / (name or "compare")
    runs = []
    for config, label in zip(configs, labels, strict=True):
        place = folder / label.replace(":", "_").replace("/", "_")
        runs.append(run_one(config, place, console, overwrite=overwrite, tensorboard=tensorboard, label=label))
        if runs[-1].status == "interrupted":
            break
    return finish(runs, console, folder, f"{len(runs)} algorithms on {options.data}")


def unique(names: list[str], specs: tuple[str, ...]) -> list[str]:
    """The names, with the whole specification where a name stands twice."""
    return [spec if names.count(name) > 1 else name for name, spec in zip(names, specs, strict=True)]


def set_threads(threads: int | None) -> None:
    """Use this many threads."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1; got {threads}.")
    if threads is not None:
        torch.set_num_threads(threads)


def run_one(
    config: Config,
    folder: Path,
    console: Console,
    *,
    overwrite: bool,
    tensorboard: bool = False,
    label: str | None = None,
) -> Run:
    """Train once, with a progress bar."""
    return _watch(start(config, folder, overwrite=overwrite, command=command(), label=label), console, tensorboard)


def finish(runs: list[Run], console: Console, folder: Path, title: str) -> int:
    """Print the table, write the report, and give the exit status."""
    loaded = tuple(load_run(run.place.path) for run in runs)
    console.print(table(loaded))
    for run in runs:
        if run.message:
            console.print(f"{run.label}: {run.message}")
    write([Scene(title, "", loaded)], folder / "report.html", title, console)
    if runs[-1].status == "interrupted":
        console.print(f"Continue with: gradvote train --resume {shlex.quote(str(runs[-1].place.path))}")
        return 130
    return 0


def write(scenes: list[Scene], path: Path, title: str, console: Console, intro: str = "") -> None:
    """Write the HTML report and say where it is; without the extra, say how to get it."""
    try:
        from gradvote.report.html import write_report  # noqa: PLC0415  # an extra
    except ImportError as error:
        console.print(f"No HTML report: {error}")
        return
    console.print(f"Report: {write_report(scenes, path, title, intro)}")


def command() -> str:
    """The command line, as typed."""
    return shlex.join(["gradvote", *sys.argv[1:]])


def _resume(options: Options, algorithm: str | None, folder: Path, console: Console, tensorboard: bool) -> int:
    chosen = config_of(options, algorithm, strict=True) if algorithm else config_of(options, "signsgd", strict=False)
    run = _watch(reopen(folder, chosen=chosen, command=command()), console, tensorboard)
    return finish([run], console, folder, run.label)


def _watch(run: Run, console: Console, tensorboard: bool) -> Run:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps  {task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}"),
    )
    with Progress(*columns, console=console) as bar, _board(run.place.path, tensorboard) as board:
        task = bar.add_task(run.label, total=run.config.steps, completed=run.step, news="", rate="")

        def progress(step: int, record: dict[str, Any] | None) -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=step, rate=f"{speed:.0f}/s" if speed else "")
            if record is not None:
                bar.update(task, news=f"loss {record['loss']:.3g}, test {record['test_accuracy']:.3f}")
                board(step, record)

        run.train(progress)
    return run


@contextmanager
def _board(folder: Path, wanted: bool) -> Iterator[Callback]:
    if not wanted:
        yield lambda step, record: None
        return
    from gradvote.train.tensorboard import events  # noqa: PLC0415  # an extra

    with events(folder) as write_events:
        yield write_events
