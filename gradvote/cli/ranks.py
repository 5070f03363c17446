"""Training on real workers: processes started here, or those that torchrun has started."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from gradvote.cli.watch import watch
from gradvote.engines.launch import spawn
from gradvote.train import Config, RunFolder, continued, prepare
from gradvote.train import checkpoint as checkpoints
from gradvote.train.config import from_json
from gradvote.train.ranks import RankFolder, RankRun

MISTAKE = "mistake"


@dataclass(frozen=True)
class Ended:
    """A run that other processes have done."""

    place: RunFolder
    config: Config
    label: str
    status: str
    message: str


@dataclass(frozen=True)
class Job:
    """What every rank is told; picklable."""

    config: str
    folder: str
    command: str
    label: str | None
    resume: bool
    tensorboard: bool


def start_ranks(
    config: Config, folder: Path, overwrite: bool, command: str, label: str | None, tensorboard: bool
) -> Ended | None:
    """Train with one process per worker; None on the ranks of torchrun that have nothing to show.

    Raises:
        ValueError: an option is wrong, or the folder holds a run.
        WorkerFailed: a worker failed; the text holds its traceback.
    """
    check_ranks(config, folder, overwrite)
    return _run(Job(config.to_json(), str(folder), command, label, False, tensorboard))


def check_ranks(config: Config, folder: Path, overwrite: bool) -> None:
    """Raise ValueError where `start_ranks` could not even begin."""
    if config.mode != "loop":
        raise ValueError(f"The mode '{config.mode}' is for simulated workers; leave it out with the engine ddp.")
    RunFolder(folder).check(overwrite)
    prepare(config)


def under_torchrun() -> bool:
    """Whether this process is a rank of somebody else's."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def resume_ranks(folder: Path, chosen: Mapping[str, Any], command: str, tensorboard: bool) -> Ended | None:
    """Continue a run of `start_ranks`, bit for bit, with as many processes."""
    place = RunFolder(folder)
    config = continued(place, checkpoints.load(place.checkpoint), chosen)
    prepare(config)
    label = place.described("label")
    return _run(Job(config.to_json(), str(folder), place.commands(command), label, True, tensorboard))


def engine_of(folder: Path) -> str:
    """The engine of the run in a folder; the default where that cannot be told."""
    try:
        return str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]["engine"])
    except (OSError, ValueError, KeyError, TypeError):
        return Config.engine


def _run(job: Job) -> Ended | None:
    config = from_json(job.config)
    if under_torchrun():
        dist.init_process_group("gloo")
        outcomes = [_work(job)]
        first = dist.get_rank() == 0
        dist.destroy_process_group()
    else:
        threads = max(1, torch.get_num_threads() // config.workers)
        outcomes = spawn(_work, config.workers, job, threads=threads, graceful=True)
        first = True
    status, message = outcomes[0]
    if status == MISTAKE:
        raise ValueError(message)
    if not first:
        return None
    return Ended(RunFolder(Path(job.folder)), config, job.label or config.algorithm, status, message)


def _work(job: Job) -> tuple[str, str]:
    place = RankFolder(Path(job.folder))
    try:
        run = RankRun(prepare(from_json(job.config)), place, job.command, job.label)
        if job.resume:
            run.resume(checkpoints.load(place.checkpoint))
        else:
            run.check(overwrite=True)
            run.open()
    except ValueError as error:
        return MISTAKE, str(error)
    if dist.get_rank() != 0:
        run.train()
    else:
        _show(run, job.tensorboard)
    return run.status, run.message


def _show(run: RankRun, tensorboard: bool) -> None:
    console = Console(highlight=False)
    if not tensorboard:
        watch(run, console)
        return
    from gradvote.train.tensorboard import events  # noqa: PLC0415  # tensorboard is an extra, for --tensorboard only

    with events(run.place.events, run.step) as board:
        watch(run, console, board)
