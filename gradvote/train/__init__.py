"""Train a model over workers with any algorithm, and leave behind records, a recipe and a checkpoint."""

from dataclasses import replace
from pathlib import Path

from gradvote.train import checkpoint
from gradvote.train.config import Config, from_json
from gradvote.train.folder import RunFolder
from gradvote.train.run import Progress, Run, silent
from gradvote.train.setup import prepare


def start(
    config: Config, folder: Path | str, *, overwrite: bool = False, command: str = "", label: str | None = None
) -> Run:
    """A run as `config` says, checked and ready: `run.train()` does the work, its results stand in `folder`.

    Raises:
        ValueError: an option is wrong, or the folder holds a run already; nothing has been changed.
    """
    run = Run(prepare(config), RunFolder(Path(folder)), command, label)
    run.start(overwrite)
    return run


def reopen(folder: Path | str, *, chosen: Config | None = None, command: str = "") -> Run:
    """The run in `folder` at its checkpoint: `run.train()` continues it, bit for bit.

    Of the options `chosen` only a larger number of steps may differ from the run's own.

    Raises:
        ValueError: no usable checkpoint, or `chosen` contradicts it; nothing has been changed.
    """
    place = RunFolder(Path(folder))
    state = checkpoint.load(place.checkpoint)
    config = from_json(state["config"])
    if chosen is not None:
        different = chosen.differences(config)
        if set(different) - {"steps"}:
            raise ValueError(
                f"The run in {folder} has other values of {', '.join(different)}. A resumed run keeps its options "
                "but for --steps; leave them out, or start a new run."
            )
        config = replace(config, steps=chosen.steps) if different else config
    if config.steps < state["step"]:
        raise ValueError(f"The run in {folder} is at step {state['step']} already, beyond {config.steps} steps.")
    run = Run(prepare(config), place, command, place.label())
    run.resume(state)
    return run


def train(config: Config, folder: Path | str, *, overwrite: bool = False, progress: Progress = silent) -> Run:
    """Train as `config` says; the results stand in `folder`. Raises as `start` does."""
    run = start(config, folder, overwrite=overwrite)
    run.train(progress)
    return run


__all__ = ["Config", "Progress", "Run", "RunFolder", "prepare", "reopen", "start", "train"]
