"""What the commands that train have in common: where results go, and how they are shown."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.markup import escape

from gradvote.lab.cli.options import option
from gradvote.lab.models import is_foreign
from gradvote.lab.report import Scene, load_run
from gradvote.lab.report.console import table
from gradvote.lab.train import Config, RunFolder

if TYPE_CHECKING:
    from gradvote.lab.train import Progress, Run

SPEC = "NAME, or NAME:key=value,... with its options and lr; see `gradvote list algorithms`."
MOST_THREADS = 64
"""Threads that may be asked for on any machine; with some thousands the process would end without a word."""
Out = Annotated[Path, option("Output", "Folder of the runs' folders.", "runs")]
Overwrite = Annotated[bool, option("Output", "Replace runs of that name.", negative=())]
Events = Annotated[bool, option("Output", "Write TensorBoard event files too.", negative=())]
Board = Callable[["Run"], "Progress"]


@dataclass(frozen=True)
class Ended:
    """A run that other processes have done."""

    place: RunFolder
    config: Config
    label: str
    status: str
    message: str


def under_torchrun() -> bool:
    """Whether this process is a rank of somebody else's."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def check_threads(threads: int | None) -> None:
    """Raise ValueError for a number of threads that cannot be."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1; got {threads}.")
    most = max(MOST_THREADS, 4 * (os.cpu_count() or 1))
    if threads is not None and threads > most:
        raise ValueError(f"threads must be at most {most} on this machine, which could not start more; got {threads}.")


def use_threads(threads: int | None) -> None:
    """Have PyTorch work on as many threads as asked for; from here on it is imported."""
    import torch

    check_threads(threads)
    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def event_files(wanted: bool) -> Iterator[Board]:
    """What makes a run's TensorBoard writer, or a writer of nothing."""
    from gradvote.lab.train import silent

    if not wanted:
        yield lambda run: silent
        return
    from gradvote.lab.train.tensorboard import events  # tensorboard is an extra, for --tensorboard only

    with ExitStack() as writers:
        yield lambda run: writers.enter_context(events(run.place.events, run.step))


def inside(out: Path, name: str) -> Path:
    """The folder of that name in `out`.

    Raises:
        ValueError: it would not lie inside.
    """
    place = Path(name)
    if place.is_absolute() or not place.parts or ".." in place.parts:
        raise ValueError(
            f"--name {name} would lie outside of --out {out}. Give a name, and another --out for elsewhere."
        )
    return out / place


def finish(runs: "Sequence[Run | Ended]", console: Console, folder: Path, title: str) -> None:
    """Print the table and what must be said about the runs, and write the report, unless a run was interrupted."""
    from gradvote.lab.train import misfit

    loaded = tuple(load_run(run.place.path) for run in runs)
    console.print(table(loaded))
    for run, records in zip(runs, (run.records for run in loaded), strict=True):
        for text in filter(None, (run.message, misfit(records))):
            console.print(f"[yellow]{escape(run.label)}:[/] {escape(text)}")
    if runs[-1].status != "interrupted":
        write([Scene(title, "", loaded)], folder / "report.html", title, console)
        return
    # Drawing takes seconds; who has stopped it does not wait for that.
    places = [str(run.place.path) for run in runs]
    console.print(f"Report, if wanted: {escape(shlex.join(['gradvote', 'report', *places]))}", soft_wrap=True)
    model = runs[-1].config.model
    words = ["gradvote", "train", "--resume", places[-1], *(["--model", model] if is_foreign(model) else [])]
    console.print(f"Continue with: {escape(shlex.join(words))}", soft_wrap=True)


def write(scenes: list[Scene], path: Path, title: str, console: Console, intro: str = "") -> None:
    """Write the HTML report and say where it is; without the extra, say how to get it."""
    try:
        from gradvote.lab.report.html import write_report  # runs end well without the extra report
    except ImportError as error:
        console.print(f"No HTML report: {escape(str(error))}", soft_wrap=True)
        return
    console.print(f"Report: {escape(str(write_report(scenes, path, title, intro)))}", soft_wrap=True)


def command() -> str:
    """The command line, as typed."""
    return shlex.join(["gradvote", *sys.argv[1:]])
