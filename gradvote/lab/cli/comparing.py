"""`gradvote compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

from gradvote.arguments import parse_spec
from gradvote.lab.cli.options import DEFAULTS, Options, configs_of, option
from gradvote.lab.cli.showing import (
    SPEC,
    Board,
    Ended,
    Events,
    Out,
    Overwrite,
    check_threads,
    command,
    event_files,
    finish,
    inside,
    under_torchrun,
    use_threads,
)
from gradvote.lab.cli.watch import watch
from gradvote.lab.files import check_page
from gradvote.lab.train import Config, RunFolder

if TYPE_CHECKING:
    from gradvote.lab.train import Run

Algorithms = Annotated[tuple[str, ...], Parameter(help=SPEC, negative=())]
Name = Annotated[str, option("Output", "Name of the folder of these runs.", "compare")]


def register(app: App) -> None:
    """Add the command."""
    app.command(compare, name="compare")


def compare(
    algorithms: Algorithms,
    /,
    *,
    options: Options = DEFAULTS,
    out: Out = Path("runs"),
    name: Name = "compare",
    overwrite: Overwrite = False,
    tensorboard: Events = False,
) -> int:
    """Train with several algorithms on the same data and show them side by side.

    For instance: gradvote compare sgd signsgd noisy-signsgd --noise-std 0.01

    With faults on fixed workers, "sgd-honest" stands beside them: mean SGD on the data of the other workers.
    """
    console, folder = Console(highlight=False), inside(out, name)
    check_threads(options.threads)
    check_page(folder / "report.html")
    configs = dict(zip(labels(algorithms), configs_of(options, algorithms), strict=True))
    for label, config in configs.items():
        RunFolder(folder / _file_name(label)).check(overwrite, config.engine)
    use_threads(options.threads)
    configs |= _baseline(configs)
    with event_files(tensorboard) as board:
        if options.engine == "ddp":
            done: Sequence[Run | Ended] = _ranks_in_turn(configs, folder, overwrite, tensorboard)
        else:
            done = watch_all(all_ready(configs, folder, overwrite), console, board)
    finish(done, console, folder, f"Side by side on {next(iter(configs.values())).data}")
    return 130 if done[-1].status == "interrupted" else 0


def all_ready(configs: Mapping[str, Config], folder: Path, overwrite: bool) -> "list[Run]":
    """A run for each, by its label, in a folder of its own in `folder`: all are checked, nothing is written."""
    from gradvote.lab import data
    from gradvote.lab.train import ready

    first = next(iter(configs.values()))
    samples = data.load(first.data, first.data_dir)

    def one(label: str, config: Config) -> "Run":
        place = folder / _file_name(label)
        return ready(config, place, overwrite=overwrite, command=command(), label=label, samples=samples)

    return [one(label, config) for label, config in configs.items()]


def watch_all(runs: "Sequence[Run]", console: Console, board: Board = lambda run: _unheard) -> "list[Run]":
    """Train one after the other, to the end or the first Ctrl-C; gives the runs that were begun."""
    done = []
    for run in runs:
        run.open()
        done.append(watch(run, console, board(run)))
        if run.status == "interrupted":
            break
    return done


def _unheard(step: int, record: object) -> None:
    """Nobody else looks."""


def _ranks_in_turn(configs: Mapping[str, Config], folder: Path, overwrite: bool, tensorboard: bool) -> list[Ended]:
    from gradvote.lab.cli.ranks import check_ranks, start_ranks

    if under_torchrun():
        raise ValueError("`gradvote compare` starts processes of its own; under torchrun use `gradvote train`.")
    for label, config in configs.items():
        check_ranks(config, folder / _file_name(label), overwrite)
    done: list[Ended] = []
    for label, config in configs.items():
        ended = start_ranks(config, folder / _file_name(label), overwrite, command(), label, tensorboard)
        assert ended is not None, "only torchrun has ranks with nothing to show"
        done.append(ended)
        if ended.status == "interrupted":
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


def _baseline(configs: Mapping[str, Config]) -> dict[str, Config]:
    """With fixed faulty workers: mean SGD on the data of the others, which robustness is judged by."""
    from gradvote.lab.train import honest

    config = honest(next((c for c in configs.values() if c.algorithm == "sgd"), next(iter(configs.values()))))
    return {} if config is None else {"sgd-honest": config}


def _file_name(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.=," else "_" for c in label)
