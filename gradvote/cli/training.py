"""`gradvote train` and `gradvote compare`."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape

from gradvote import data
from gradvote.cli.options import DEFAULTS, Options, chosen, configs_of, option, parse_spec
from gradvote.cli.ranks import Ended, engine_of, resume_ranks, start_ranks
from gradvote.cli.watch import watch
from gradvote.report import Scene, load_run
from gradvote.report.console import table
from gradvote.train import Config, Progress, Run, honest, misfit, ready, reopen, silent

SPEC = "NAME, or NAME:key=value,... with its options and lr; see `gradvote list algorithms`."
Algorithm = Annotated[str | None, option("Algorithm", SPEC, Config.algorithm)]
Algorithms = Annotated[tuple[str, ...], Parameter(help=SPEC, negative=())]
Out = Annotated[Path, option("Output", "Folder of the runs' folders.", "runs")]
Name = Annotated[str | None, option("Output", "Name of the run's folder.", "the algorithm's")]
GroupName = Annotated[str, option("Output", "Name of the folder of these runs.", "compare")]
Overwrite = Annotated[bool, option("Output", "Replace runs of that name.", negative=())]
Events = Annotated[bool, option("Output", "Write TensorBoard event files too.", negative=())]
Resume = Annotated[
    Path | None, option("Output", "Continue the run in this folder, bit for bit; --steps may be larger than before.")
]

Board = Callable[[Run], Progress]


def register(app: App) -> None:
    """Add the commands."""
    app.command(train_command, name="train")
    app.command(compare_command, name="compare")


def train_command(
    *,
    algorithm: Algorithm = None,
    options: Options = DEFAULTS,
    out: Out = Path("runs"),
    name: Name = None,
    overwrite: Overwrite = False,
    tensorboard: Events = False,
    resume: Resume = None,
) -> int:
    """Train one model over simulated workers with one algorithm.

    For instance: gradvote train --algorithm noisy-signsgd --noise-std 0.01
    """
    console = _prepared(options)
    if resume is not None and engine_of(resume) == "ddp":
        done = resume_ranks(resume, chosen(options, algorithm), command(), tensorboard)
        return _status(done, console)
    if resume is None and options.engine == "ddp":
        config = configs_of(options, [Config.algorithm if algorithm is None else algorithm])[0]
        done = start_ranks(config, out / (name or config.algorithm), overwrite, command(), None, tensorboard)
        return _status(done, console)
    with _board(tensorboard) as board:
        if resume is not None:
            if overwrite or name is not None:
                raise ValueError("--resume continues a run in its own folder; leave --name and --overwrite out.")
            run = reopen(resume, chosen=chosen(options, algorithm), command=command())
        else:
            config = configs_of(options, [Config.algorithm if algorithm is None else algorithm])[0]
            run = ready(config, out / (name or config.algorithm), overwrite=overwrite, command=command())
            run.open()
        watch(run, console, board(run))
    return _status(run, console)


def _status(run: Run | Ended | None, console: Console) -> int:
    if run is None:
        return 0
    finish([run], console, run.place.path, f"{run.config.algorithm} on {run.config.data}")
    return {"diverged": 1, "interrupted": 130}.get(run.status, 0)


def compare_command(
    algorithms: Algorithms,
    /,
    *,
    options: Options = DEFAULTS,
    out: Out = Path("runs"),
    name: GroupName = "compare",
    overwrite: Overwrite = False,
    tensorboard: Events = False,
) -> int:
    """Train with several algorithms on the same data and show them side by side.

    For instance: gradvote compare sgd signsgd noisy-signsgd --noise-std 0.01
    """
    console, folder = _prepared(options), out / name
    configs = dict(zip(labels(algorithms), configs_of(options, algorithms), strict=True))
    configs |= _baseline(configs)
    if options.engine == "ddp":
        ended = [
            start_ranks(config, folder / _file_name(label), overwrite, command(), label, tensorboard)
            for label, config in configs.items()
        ]
        finish([run for run in ended if run is not None], console, folder, "Side by side")
        return 0
    with _board(tensorboard) as board:
        runs = all_ready(configs, folder, overwrite)
        done = watch_all(runs, console, board)
    finish(done, console, folder, f"Side by side on {runs[0].config.data}")
    return 130 if done[-1].status == "interrupted" else 0


def all_ready(configs: Mapping[str, Config], folder: Path, overwrite: bool) -> list[Run]:
    """A run for each, by its label, in a folder of its own in `folder`: all are checked, nothing is written."""
    first = next(iter(configs.values()))
    samples = data.load(first.data, first.data_dir)

    def one(label: str, config: Config) -> Run:
        place = folder / _file_name(label)
        return ready(config, place, overwrite=overwrite, command=command(), label=label, samples=samples)

    return [one(label, config) for label, config in configs.items()]


def watch_all(runs: Sequence[Run], console: Console, board: Board = lambda run: silent) -> list[Run]:
    """Train one after the other, to the end or the first Ctrl-C; gives the runs that were begun."""
    done = []
    for run in runs:
        run.open()
        done.append(watch(run, console, board(run)))
        if run.status == "interrupted":
            break
    return done


def labels(specs: Sequence[str]) -> list[str]:
    """A different name for each: the algorithm's, or the whole specification where that stands twice.

    Raises:
        ValueError: two specifications are the same.
    """
    names = [parse_spec(spec)[0] for spec in specs]
    found = [spec if names.count(name) > 1 else name for name, spec in zip(names, specs, strict=True)]
    for label in found:
        if found.count(label) > 1:
            raise ValueError(f"'{label}' is there twice. Leave one out, or give them different options.")
    return found


def finish(runs: Sequence[Run | Ended], console: Console, folder: Path, title: str) -> None:
    """Print the table and what must be said about the runs, and write the report."""
    loaded = tuple(load_run(run.place.path) for run in runs)
    console.print(table(loaded))
    for run, records in zip(runs, (run.records for run in loaded), strict=True):
        for text in filter(None, (run.message, misfit(records))):
            console.print(f"[yellow]{escape(run.label)}:[/] {escape(text)}")
    write([Scene(title, "", loaded)], folder / "report.html", title, console)
    if runs[-1].status == "interrupted":
        place = shlex.quote(str(runs[-1].place.path))
        console.print(f"Continue with: gradvote train --resume {place}", soft_wrap=True)


def write(scenes: list[Scene], path: Path, title: str, console: Console, intro: str = "") -> None:
    """Write the HTML report and say where it is; without the extra, say how to get it."""
    try:
        from gradvote.report.html import write_report  # noqa: PLC0415  # an extra
    except ImportError as error:
        console.print(f"No HTML report: {escape(str(error))}", soft_wrap=True)
        return
    console.print(f"Report: {escape(str(write_report(scenes, path, title, intro)))}", soft_wrap=True)


def command() -> str:
    """The command line, as typed."""
    return shlex.join(["gradvote", *sys.argv[1:]])


def _prepared(options: Options) -> Console:
    if options.threads is not None:
        if options.threads < 1:
            raise ValueError(f"threads must be at least 1; got {options.threads}.")
        torch.set_num_threads(options.threads)
    return Console(highlight=False)


@contextmanager
def _board(wanted: bool) -> Iterator[Board]:
    if not wanted:
        yield lambda run: silent
        return
    from gradvote.train.tensorboard import events  # noqa: PLC0415  # an extra

    with ExitStack() as writers:
        yield lambda run: writers.enter_context(events(run.place.events, run.step))


def _baseline(configs: Mapping[str, Config]) -> dict[str, Config]:
    """With fixed faulty workers: mean SGD on the data of the others, which robustness is judged by."""
    config = honest(next((c for c in configs.values() if c.algorithm == "sgd"), next(iter(configs.values()))))
    return {} if config is None else {"sgd-honest": config}


def _file_name(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.=," else "_" for c in label)
