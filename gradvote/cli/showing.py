"""What the commands that train have in common: where results go, and how they are shown."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import torch
from rich.console import Console
from rich.markup import escape

from gradvote.cli.options import Options, option
from gradvote.cli.ranks import Ended
from gradvote.report import Scene, load_run
from gradvote.report.console import table
from gradvote.train import Progress, Run, misfit, silent

SPEC = "NAME, or NAME:key=value,... with its options and lr; see `gradvote list algorithms`."
Out = Annotated[Path, option("Output", "Folder of the runs' folders.", "runs")]
Overwrite = Annotated[bool, option("Output", "Replace runs of that name.", negative=())]
Events = Annotated[bool, option("Output", "Write TensorBoard event files too.", negative=())]
Board = Callable[[Run], Progress]


def prepared(options: Options) -> Console:
    """A console, with PyTorch on as many threads as asked for."""
    if options.threads is not None:
        if options.threads < 1:
            raise ValueError(f"threads must be at least 1; got {options.threads}.")
        torch.set_num_threads(options.threads)
    return Console(highlight=False)


@contextmanager
def event_files(wanted: bool) -> Iterator[Board]:
    """What makes a run's TensorBoard writer, or a writer of nothing."""
    if not wanted:
        yield lambda run: silent
        return
    from gradvote.train.tensorboard import events  # noqa: PLC0415  # tensorboard is an extra, for --tensorboard only

    with ExitStack() as writers:
        yield lambda run: writers.enter_context(events(run.place.events, run.step))


def finish(runs: Sequence[Run | Ended], console: Console, folder: Path, title: str) -> None:
    """Print the table and what must be said about the runs, and write the report, unless a run was interrupted."""
    loaded = tuple(load_run(run.place.path) for run in runs)
    console.print(table(loaded))
    for run, records in zip(runs, (run.records for run in loaded), strict=True):
        for text in filter(None, (run.message, misfit(records))):
            console.print(f"[yellow]{escape(run.label)}:[/] {escape(text)}")
    if runs[-1].status != "interrupted":
        write([Scene(title, "", loaded)], folder / "report.html", title, console)
        return
    # Drawing takes seconds; who has stopped it does not wait for that.
    places = [shlex.quote(str(run.place.path)) for run in runs]
    console.print(f"Report, if wanted: gradvote report {' '.join(places)}", soft_wrap=True)
    console.print(f"Continue with: gradvote train --resume {places[-1]}", soft_wrap=True)


def write(scenes: list[Scene], path: Path, title: str, console: Console, intro: str = "") -> None:
    """Write the HTML report and say where it is; without the extra, say how to get it."""
    try:
        from gradvote.report.html import write_report  # noqa: PLC0415  # runs end well without the extra report
    except ImportError as error:
        console.print(f"No HTML report: {escape(str(error))}", soft_wrap=True)
        return
    console.print(f"Report: {escape(str(write_report(scenes, path, title, intro)))}", soft_wrap=True)


def command() -> str:
    """The command line, as typed."""
    return shlex.join(["gradvote", *sys.argv[1:]])
