"""A vote's state beside a trainer's checkpoint: a file of each rank in one folder, and the answer to a wrong folder.

A rank's memories are its own, so the trainer's file of rank 0 cannot hold them. Ranks look into their files first and
answer together: one that failed alone would leave the others waiting in the next vote.
"""

import contextlib
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from gradvote import distributed
from gradvote.ddp import DDPVote

NAME = "gradvote{vote}-{rank}-of-{num_ranks}.pt"
FRESH = "To go on with empty memories instead, give fresh=True."


def save(folder: Path, vote: DDPVote, step: int | None, number: int = 0) -> Path:
    """Write this rank's file, whole or not at all. `step` is the trainer's, `number` that of several votes."""
    state = vote.state_dict(views=True)
    path = folder / _name(number, state["rank"], state["num_ranks"])
    _write(path, {"step": step, "vote": state})
    if state["rank"] == 0:
        _remove_others(folder, number, state["num_ranks"])
    return path


def load(folder: Path, vote: DDPVote, step: int | None, number: int = 0) -> None:
    """Read this rank's file into the vote; all ranks must call it, and all raise where one of them has to.

    Raises:
        ValueError: a file is missing, damaged, of another step, number of ranks, model or algorithm.
    """
    problem = ""
    try:
        vote.load_state_dict(_read(folder, step, number))
    except ValueError as error:
        problem = str(error)
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, problem)
    failed = [rank for rank, text in enumerate(everyone) if text]
    if failed:
        raise ValueError(f"Rank {failed[0]} cannot load the state of its votes. {everyone[failed[0]]} {FRESH}")


def resize(folder: str | os.PathLike[str], num_ranks: int) -> None:
    """Make the votes' files in a checkpoint those of `num_ranks` ranks: `gradvote.distributed.resize` on a folder.

    Run it in one process, before training is started with another number of ranks. Nothing unsent is lost.

    Raises:
        ValueError: the folder has no votes' files, or those of some ranks only.
    """
    place = Path(folder)
    found = sorted(place.glob("gradvote*-of-*.pt"))
    if not found:
        raise ValueError(f"There are no votes' files (gradvote*-of-*.pt) in {place}. Give the folder that has them.")
    for number in sorted({path.name.split("-")[0] for path in found}):
        files = [_file(path) for path in found if path.name.split("-")[0] == number]
        states = distributed.resize([file["vote"] for file in files], num_ranks)
        for state in states:
            name = f"{number}-{state['rank']}-of-{num_ranks}.pt"
            _write(place / name, {"step": files[0]["step"], "vote": state})
        _remove_others(place, int(number.removeprefix("gradvote") or 0), num_ranks)


def _read(folder: Path, step: int | None, number: int) -> dict[str, Any]:
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    path = folder / _name(number, rank, num_ranks)
    if not path.exists():
        raise ValueError(_missing(folder, path, number))
    file = _file(path)
    if step is not None and file["step"] != step:
        raise ValueError(
            f"{path} was saved at step {file['step']}, the rest of the checkpoint at step {step}: it is left from "
            "another run. Take another checkpoint."
        )
    state: dict[str, Any] = file["vote"]
    return state


def _missing(folder: Path, path: Path, number: int) -> str:
    others = {name.stem.rpartition("-of-")[2] for name in folder.glob(_name(number, "*", "*"))}
    if others - {str(dist.get_world_size())}:
        return (
            f"The checkpoint in {folder} is of {' and of '.join(sorted(others))} ranks, and {dist.get_world_size()} "
            "run here: gradvote.integrations.checkpoints.resize(folder, num_ranks) converts it."
        )
    return f"There is no {path.name} in {folder}: the checkpoint was made without votes, or its saving was cut short."


def _file(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        file: dict[str, Any] = {} if damaged else torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # what torch raises for bytes that it did not write is not documented
        raise ValueError(f"{path} cannot be read ({type(error).__name__}). Take another checkpoint.") from error
    if damaged:
        raise ValueError(f"{path} cannot be read: its part {damaged} was altered. Take another checkpoint.")
    if file.keys() == {"step", "vote"}:
        return file
    raise ValueError(f"{path} is no file of gradvote's votes. Take another checkpoint.")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(content, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _remove_others(folder: Path, number: int, num_ranks: int) -> None:
    """Files of another number of ranks were left by a run before, and would be taken for this one's."""
    for path in folder.glob(f"gradvote{number or ''}-*-of-*.pt"):
        if not path.name.endswith(f"-of-{num_ranks}.pt"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _name(number: int, rank: int | str, num_ranks: int | str) -> str:
    return NAME.format(vote=number or "", rank=rank, num_ranks=num_ranks)
