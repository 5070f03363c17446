"""`gradvote train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App
from rich.console import Console

from gradvote.cli.elastic_runs import Script, resume_elastic, start_elastic
from gradvote.cli.options import DEFAULTS, Options, chosen, configs_of, number, option
from gradvote.cli.ranks import Ended, engine_of, resume_ranks, start_ranks
from gradvote.cli.showing import SPEC, Events, Out, Overwrite, command, event_files, finish, inside, prepared
from gradvote.cli.watch import watch
from gradvote.files import check_page
from gradvote.train import Config, Run, RunFolder, ready, reopen

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
    console = prepared(options)
    script = Script(min_workers, deadline, kill, stop, keys)
    done: Run | Ended | None
    if resume is not None:
        if overwrite or name is not None:
            raise ValueError("--resume continues a run in its own folder; leave --name and --overwrite out.")
        done = _continued(resume, options, algorithm, console, tensorboard, script)
    else:
        config = configs_of(options, [Config.algorithm if algorithm is None else algorithm])[0]
        done = _begun(
            config, inside(out, config.algorithm if name is None else name), console, overwrite, tensorboard, script
        )
    if done is None:
        return 0
    finish([done], console, done.place.path, f"{done.config.algorithm} on {done.config.data}")
    return {"diverged": 1, "interrupted": 130}.get(done.status, 0)


def _begun(
    config: Config, folder: Path, console: Console, overwrite: bool, tensorboard: bool, script: Script
) -> Run | Ended | None:
    if config.engine == "elastic":
        return start_elastic(config, folder, overwrite, command(), script, resume=False)
    script.check_unused()
    with event_files(tensorboard) as board:
        if config.engine == "ddp":
            return start_ranks(config, folder, overwrite, command(), None, tensorboard)
        run = ready(config, folder, overwrite=overwrite, command=command())
        run.open()
        return watch(run, console, board(run))


def _continued(
    folder: Path, options: Options, algorithm: str | None, console: Console, tensorboard: bool, script: Script
) -> Run | Ended | None:
    given = chosen(options, algorithm)
    check_page(RunFolder(folder).report)
    if engine_of(folder) == "elastic":
        return resume_elastic(folder, given, command(), script)
    script.check_unused()
    with event_files(tensorboard) as board:
        if engine_of(folder) == "ddp":
            return resume_ranks(folder, given, command(), tensorboard)
        run = reopen(folder, chosen=given, command=command())
        return watch(run, console, board(run))
