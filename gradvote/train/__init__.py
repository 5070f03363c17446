"""Train a model over workers with any algorithm, and leave behind records, a recipe and a checkpoint."""

from pathlib import Path

from gradvote.train import checkpoint
from gradvote.train.config import Config, from_json
from gradvote.train.folder import RunFolder
from gradvote.train.run import Progress, Run
from gradvote.train.setup import prepare


def train(
    config: Config,
    folder: Path | str,
    *,
    overwrite: bool = False,
    progress: Progress = lambda step, record: None,
    command: str = "",
    label: str | None = None,
) -> Run:
    """Train as `config` says; the results stand in `folder`.

    Raises:
        ValueError: an option is wrong, or the folder holds a run already; nothing has been changed.
    """
    run = Run(prepare(config), RunFolder(Path(folder)), command, label)
    run.start(overwrite)
    run.train(progress)
    return run


def resume(
    folder: Path | str,
    *,
    chosen: Config | None = None,
    progress: Progress = lambda step, record: None,
    command: str = "",
) -> Run:
    """Continue the run in `folder` from its checkpoint, bit for bit; of `chosen` only the number of steps may differ.

    Raises:
        ValueError: no usable checkpoint, or `chosen` contradicts it; nothing has been changed.
    """
    place = RunFolder(Path(folder))
    state = checkpoint.load(place.checkpoint)
    config = from_json(state["config"])
    if chosen is not None:
        different = [name for name in chosen.differences(config) if name != "steps"]
        if different:
            raise ValueError(
                f"The run in {folder} has other values of {', '.join(different)}. A resumed run keeps its options; "
                "leave them out, or start a new run."
            )
    run = Run(prepare(config), place, command)
    run.resume(state)
    run.train(progress)
    return run


__all__ = ["Config", "Progress", "Run", "RunFolder", "prepare", "resume", "train"]
