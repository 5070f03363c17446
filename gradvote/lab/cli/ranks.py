"""Training on real workers: processes started here, or those that torchrun has started."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from gradvote.engines.launch import spawn
from gradvote.lab.cli.notices import shown_on
from gradvote.lab.cli.plain import plain_characters
from gradvote.lab.cli.showing import Ended, under_torchrun
from gradvote.lab.cli.watch import watch
from gradvote.lab.streams import steady_streams
from gradvote.lab.train import Config, RunFolder, continued, prepare
from gradvote.lab.train import checkpoint as checkpoints
from gradvote.lab.train.config import from_json
from gradvote.lab.train.ranks import RankFolder, RankRun

MISTAKE = "mistake"


@dataclass(frozen=True)
class Job:
    """What every rank is told; picklable."""

    config: str
    folder: str
    command: str
    label: str | None
    overwrite: bool
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
    place = RunFolder(folder)
    return _run(place, Job(config.to_json(), str(folder), command, label, overwrite, False, tensorboard))


def check_ranks(config: Config, folder: Path, overwrite: bool) -> None:
    """Raise ValueError where `start_ranks` could not even begin."""
    if config.mode != "loop":
        raise ValueError(f"The mode '{config.mode}' is for simulated workers; leave it out with the engine ddp.")
    RunFolder(folder).check(overwrite, config.engine)
    prepare(config)


def resume_ranks(folder: Path, chosen: Mapping[str, Any], command: str, tensorboard: bool) -> Ended | None:
    """Continue a run of `start_ranks`, bit for bit, with as many processes."""
    place = RunFolder(folder)
    config = continued(place, checkpoints.load(place.checkpoint), chosen)
    prepare(config)
    label = place.described("label")
    return _run(place, Job(config.to_json(), str(folder), place.commands(command), label, False, True, tensorboard))


def _run(place: RunFolder, job: Job) -> Ended | None:
    config = from_json(job.config)
    if under_torchrun():
        dist.init_process_group("gloo")
        _held_by_the_first(place)
        outcomes = [_work(job)]
        first = dist.get_rank() == 0
        dist.destroy_process_group()
    else:
        place.hold()
        threads = max(1, torch.get_num_threads() // config.workers)
        outcomes = spawn(_work, config.workers, job, threads=threads, graceful=True)
        first = True
    place.release()
    status, message = outcomes[0]
    if status == MISTAKE:
        raise ValueError(message)
    if not first:
        return None
    return Ended(RunFolder(Path(job.folder)), config, job.label or config.algorithm, status, message)


def _held_by_the_first(place: RunFolder) -> None:
    """Rank 0 takes the folder. Raises ValueError on all ranks where it cannot."""
    refused: list[str | None] = [None]
    if dist.get_rank() == 0:
        try:
            place.hold()
        except ValueError as error:
            refused = [str(error)]
    dist.broadcast_object_list(refused)
    if refused[0] is not None:
        raise ValueError(refused[0])


def _work(job: Job) -> tuple[str, str]:
    steady_streams()
    plain_characters()
    place = RankFolder(Path(job.folder))
    try:
        run = RankRun(prepare(from_json(job.config)), place, job.command, job.label)
        if job.resume:
            run.resume(checkpoints.load(place.checkpoint))
        else:
            run.check(job.overwrite)
            run.open()
    except ValueError as error:
        return MISTAKE, str(error)
    if dist.get_rank() != 0:
        run.train()
    else:
        with shown_on(Console(stderr=True, highlight=False)):
            _show(run, job.tensorboard)
    return run.status, run.message


def _show(run: RankRun, tensorboard: bool) -> None:
    console = Console(highlight=False)
    if not tensorboard:
        watch(run, console)
        return
    from gradvote.lab.train.tensorboard import events  # tensorboard is an extra, for --tensorboard only

    with events(run.place.events, run.step) as board:
        watch(run, console, board)
