"""`gradvote train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App
from rich.console import Console

from gradvote.lab.cli.options import DEFAULTS, Options, chosen, configs_of, number, option
from gradvote.lab.cli.script import Script
from gradvote.lab.cli.showing import (
    SPEC,
    Ended,
    Events,
    Out,
    Overwrite,
    check_threads,
    command,
    event_files,
    finish,
    inside,
    use_threads,
)
from gradvote.lab.cli.watch import watch
from gradvote.lab.files import check_page
from gradvote.lab.train import Config, RunFolder

if TYPE_CHECKING:
    from gradvote.lab.train import Run

Algorithm = Annotated[str | None, option("Algorithm", SPEC, Config.algorithm)]
Name = Annotated[str | None, option("Output", "Name of the run's folder.", "the algorithm's")]
MinWorkers = Annotated[
    int | None, number("Running", "Engine elastic: the fewest ballots of a step.", "more than half of the workers")
]
Deadline = Annotated[float | None, option("Running", "Engine elastic: seconds that a vote waits for ballots.", 2.0)]
Kills = Annotated[
    tuple[str, ...], option("Faults", "Engine elastic: WORKER@STEP, killed there (it comes back).", negative=())
]
Stops = Annotated[
    tuple[str, ...], option("Faults", "Engine elastic: WORKER@STEP:SECONDS, stopped there for so long.", negative=())
]
Keys = Annotated[
    Path | None, option("Running", "Engine elastic: a folder of `gradvote keys`; ballots are signed with them.")
]
Resume = Annotated[
    Path | None, option("Output", "Continue the run in this folder, bit for bit; --steps may be larger than before.")
]


def register(app: App) -> None:
    """Add the command."""
    app.command(train, name="train")


def train(
    *,
    algorithm: Algorithm = None,
    options: Options = DEFAULTS,
    out: Out = Path("runs"),
    name: Name = None,
    overwrite: Overwrite = False,
    tensorboard: Events = False,
    resume: Resume = None,
    min_workers: MinWorkers = None,
    deadline: Deadline = None,
    kill: Kills = (),
    stop: Stops = (),
    keys: Keys = None,
) -> int:
    """Train one model over workers with one algorithm.

    For instance: gradvote train --algorithm noisy-signsgd --noise-std 0.01
    """
    console = Console(highlight=False)
    check_threads(options.threads)
    script = Script(min_workers, deadline, kill, stop, keys)
    done: Run | Ended | None
    if resume is not None:
        if overwrite or name is not None:
            raise ValueError("--resume continues a run in its own folder; leave --name and --overwrite out.")
        done = _continued(resume, options, algorithm, console, tensorboard, script)
    else:
        config = configs_of(options, [Config.algorithm if algorithm is None else algorithm])[0]
        folder = inside(out, config.algorithm if name is None else name)
        done = _begun(config, options.threads, folder, console, overwrite, tensorboard, script)
    if done is None:
        return 0
    finish([done], console, done.place.path, f"{done.config.algorithm} on {done.config.data}")
    return {"diverged": 1, "interrupted": 130}.get(done.status, 0)


def _begun(
    config: Config,
    threads: int | None,
    folder: Path,
    console: Console,
    overwrite: bool,
    tensorboard: bool,
    script: Script,
) -> "Run | Ended | None":
    if config.engine != "elastic":
        script.check_unused()
    RunFolder(folder).check(overwrite, config.engine)
    use_threads(threads)
    if config.engine == "elastic":
        from gradvote.lab.cli.elastic_runs import start_elastic

        return start_elastic(config, folder, overwrite, command(), script, resume=False)
    with event_files(tensorboard) as board:
        if config.engine == "ddp":
            from gradvote.lab.cli.ranks import start_ranks

            return start_ranks(config, folder, overwrite, command(), None, tensorboard)
        from gradvote.lab.train import ready

        run = ready(config, folder, overwrite=overwrite, command=command())
        run.open()
        return watch(run, console, board(run))


def _continued(
    folder: Path, options: Options, algorithm: str | None, console: Console, tensorboard: bool, script: Script
) -> "Run | Ended | None":
    given, place = chosen(options, algorithm), RunFolder(folder)
    check_page(place.report)
    engine = place.engine()
    if engine != "elastic":
        script.check_unused()
    place.check_checkpoint()
    use_threads(options.threads)
    if engine == "elastic":
        from gradvote.lab.cli.elastic_runs import resume_elastic

        return resume_elastic(folder, given, command(), script)
    with event_files(tensorboard) as board:
        if engine == "ddp":
            from gradvote.lab.cli.ranks import resume_ranks

            return resume_ranks(folder, given, command(), tensorboard)
        from gradvote.lab.train import reopen

        run = reopen(folder, chosen=given, command=command())
        return watch(run, console, board(run))
