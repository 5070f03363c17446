"""Training on workers that may die and come back: `gradvote train --engine elastic`."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from gradvote.engines.common.arguments import check_members, check_rule
from gradvote.engines.elastic.launcher import Launcher
from gradvote.engines.elastic.timeouts import timeouts_for
from gradvote.lab.cli.script import Script
from gradvote.lab.cli.showing import Ended
from gradvote.lab.cli.watch import columns, news_of
from gradvote.lab.files import from_json, write_text
from gradvote.lab.train import Config, RunFolder, continued, prepare
from gradvote.lab.train import checkpoint as checkpoints
from gradvote.lab.train.elastic import Job, Kill, Stop
from gradvote.lab.train.setup import Setup


def start_elastic(config: Config, folder: Path, overwrite: bool, command: str, script: Script, resume: bool) -> Ended:
    """Train with one process per worker, each of which may die and come back.

    Raises:
        ValueError: an option is wrong, or the folder holds a run.
    """
    quorum = config.workers // 2 + 1 if script.min_workers is None else script.min_workers
    kills, stops = kills_of(script.kill, config), stops_of(script.stop, config)
    deadline = 2.0 if script.deadline is None else script.deadline
    timeouts_for(deadline)
    place = RunFolder(folder)
    job = Job(config.to_json(), str(folder), command, None, deadline, resume, kills, stops)
    console = Console(highlight=False)
    paper = folder / "job.json"
    launcher = Launcher(
        [sys.executable, "-m", "gradvote.lab.train.elastic", str(paper)],
        config.workers,
        quorum,
        keys=script.keys,
        say=lambda text: console.print(escape(text), soft_wrap=True),
    )
    setup = prepare(config)
    _check_elastic(setup)
    if resume:
        place.hold()
    else:
        place.check(overwrite, config.engine)
        place.create(overwrite, config.engine)
        _describe_beginning(place, setup, command)
    write_text(paper, job.to_json())
    with Progress(*columns(), console=console) as bar:
        task = bar.add_task(config.algorithm, total=config.steps, news="", rate="")
        status = launcher.run(lambda: _show(place, bar, task))
    place.release()
    return Ended(place, config, config.algorithm, *_end_of(place, status))


def _check_elastic(setup: Setup) -> None:
    """What each worker would refuse, once for all of them: the launcher would start them again and again."""
    check_members(setup.protocol.algorithm)
    check_rule(setup.protocol.algorithm, setup.config.placed)


def resume_elastic(folder: Path, chosen: Mapping[str, Any], command: str, script: Script) -> Ended:
    """Continue a run of `start_elastic` from its workers' last checkpoints."""
    place = RunFolder(folder)
    config = continued(place, checkpoints.load(place.checkpoint), chosen)
    return start_elastic(config, folder, False, place.commands(command), script, resume=True)


def kills_of(texts: Sequence[str], config: Config) -> tuple[Kill, ...]:
    """WORKER@STEP, each."""
    return tuple(Kill(*_place(text, r"(\d+)@(\d+)", "2@100", config)) for text in texts)


def stops_of(texts: Sequence[str], config: Config) -> tuple[Stop, ...]:
    """WORKER@STEP:SECONDSs, each."""
    found = []
    for text in texts:
        place, colon, seconds = text.partition(":")
        number = seconds.removesuffix("s")
        if not colon or not re.fullmatch(r"\d+(\.\d+)?", number):
            raise ValueError(f"'{text}' should be WORKER@STEP:SECONDS, for instance 3@200:5s.")
        found.append(Stop(*_place(place, r"(\d+)@(\d+)", "3@200:5s", config), float(number)))
    return tuple(found)


def _place(text: str, pattern: str, example: str, config: Config) -> tuple[int, int]:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ValueError(f"'{text}' should be WORKER@STEP, for instance {example}.")
    worker, step = int(match[1]), int(match[2])
    if worker >= config.workers or step >= config.steps:
        raise ValueError(
            f"There is no worker {worker} or no step {step}: the workers are 0 to {config.workers - 1}, the steps 0 to "
            f"{config.steps - 1}."
        )
    return worker, step


def _show(place: RunFolder, bar: Progress, task: TaskID) -> None:
    try:
        record = from_json(place.records.read_text(encoding="utf-8").splitlines()[-1])
    except (OSError, IndexError, ValueError):
        return
    bar.update(task, completed=record["step"], news=news_of(record))


def _describe_beginning(place: RunFolder, setup: Setup, command: str) -> None:
    """What `--resume` needs, before any worker is there to write it: a run may be stopped while they come together."""
    config, num = setup.config, setup.protocol.layout.size
    about = {"name": place.path.resolve().name, "label": config.algorithm, "algorithm": repr(setup.protocol.algorithm)}
    more = {"num_parameters": num, "num_workers": config.workers, "status": "running", "message": ""}
    place.describe({**about, "command": command, "config": dict(vars(config)), "seed": config.seed, **more})
    nothing: dict[str, Any] = {"optimizers": [], "engine": {}, "round": {}, "seconds": 0.0}
    models = [setup.model.state_dict()]
    checkpoints.save({"step": 0, "config": config.to_json(), "models": models, **nothing}, place.checkpoint)


def _end_of(place: RunFolder, status: int) -> tuple[str, str]:
    how, message = place.described("status"), place.described("message")
    if status == 130:
        if how == "running":  # the worker that writes it was not there, or not at work yet
            message = "stopped by the user"
            about = from_json(place.about.read_text(encoding="utf-8"))
            place.describe({**about, "status": "interrupted", "message": message, "step": None})
        return "interrupted", message or "stopped by the user"
    if status or how is None:
        raise ValueError("Too few workers were left; look at what they said above. --resume continues the run.")
    return how, message or ""
