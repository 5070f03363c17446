"""A run from its options, or from its checkpoint."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradvote.lab.data import Data
from gradvote.lab.models import is_foreign
from gradvote.lab.train import checkpoint
from gradvote.lab.train.config import Config, from_json
from gradvote.lab.train.folder import RunFolder
from gradvote.lab.train.local import run_for
from gradvote.lab.train.run import Progress, Run, silent
from gradvote.lab.train.setup import prepare


def ready(
    config: Config,
    folder: Path | str,
    *,
    overwrite: bool = False,
    command: str = "",
    label: str | None = None,
    samples: Data | None = None,
) -> Run:
    """A run as `config` says, checked, on `samples` or the data set it names; nothing is written before `run.open()`.

    Raises:
        ValueError: an option is wrong, the first loss is not finite, or the folder holds a run already.
    """
    if config.engine != "simulation":
        raise ValueError(f"The engine '{config.engine}' needs a process for each worker; use `gradvote train`.")
    run = run_for(prepare(config, samples), RunFolder(Path(folder)), command, label)
    run.check(overwrite)
    return run


def start(
    config: Config,
    folder: Path | str,
    *,
    overwrite: bool = False,
    command: str = "",
    label: str | None = None,
    samples: Data | None = None,
) -> Run:
    """The same with its folder made: `run.train()` does the work, its results stand in `folder`."""
    run = ready(config, folder, overwrite=overwrite, command=command, label=label, samples=samples)
    run.open()
    return run


def reopen(
    folder: Path | str, *, chosen: Mapping[str, Any] | None = None, command: str = "", samples: Data | None = None
) -> Run:
    """The run in `folder` at its checkpoint: `run.train()` continues it, bit for bit.

    Of the options in `chosen`, which a `Config` has, only the number of steps, if it is larger, and the place of the
    data may differ from the run's own. A model of the user's, "package.module:factory", must be among them: a file does
    not choose which code is run.

    Raises:
        ValueError: no usable checkpoint, `chosen` contradicts it, or another process goes on with it; nothing has been
            changed.
    """
    place = RunFolder(Path(folder))
    if place.checkpoint.is_file():
        place.hold()
    try:
        state = checkpoint.load(place.checkpoint)
        config = continued(place, state, chosen or {})
        if config.engine != "simulation":
            raise ValueError(
                f"The run in {folder} has the engine '{config.engine}'; `gradvote train --resume` goes on with it."
            )
        run = run_for(prepare(config, samples), place, place.commands(command), place.described("label"))
        run.resume(state)
    except BaseException:
        place.release()
        raise
    return run


def continued(place: RunFolder, state: Mapping[str, Any], chosen: Mapping[str, Any]) -> Config:
    """The options of a checkpoint's run, with the number of steps and the place of the data in `chosen`.

    Raises:
        ValueError: the checkpoint holds none, `chosen` contradicts them, or they name a factory that `chosen` does not.
    """
    return _continued(_config_in(state, place.checkpoint), state["step"], chosen, place)


def train(config: Config, folder: Path | str, *, overwrite: bool = False, progress: Progress = silent) -> Run:
    """Train as `config` says; the results stand in `folder`. Raises as `start` does."""
    run = start(config, folder, overwrite=overwrite)
    run.train(progress)
    return run


def _config_in(state: Mapping[str, Any], path: Path) -> Config:
    try:
        return from_json(state["config"])
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold the options of a run: {error}") from error


def _continued(config: Config, step: int, chosen: Mapping[str, Any], place: RunFolder) -> Config:
    different = config.contradicted({key: value for key, value in chosen.items() if key not in ("steps", "data_dir")})
    if different:
        raise ValueError(
            f"The run in {place.path} has other values of {', '.join(different)}. A resumed run keeps its options but "
            "for steps and the place of the data; leave them out, or start a new run."
        )
    if is_foreign(config.model) and "model" not in chosen:
        raise ValueError(
            f"The run in {place.path} has a model that does not come with gradvote, and a checkpoint does not choose "
            f"which code is run. If you trust it, name it: --model {config.model}"
        )
    steps = chosen.get("steps", config.steps)
    if steps < step:
        raise ValueError(f"The run in {place.path} is at step {step} already, beyond {steps} steps.")
    if steps != config.steps and config.schedule != "constant":
        raise ValueError(
            f"The run in {place.path} has the learning-rate schedule '{config.schedule}' over {config.steps} steps, "
            "so another number of steps would be another run. Leave the steps out, or start a new run."
        )
    return replace(config, steps=steps, data_dir=chosen.get("data_dir", _place_of_data(config)))


def _place_of_data(config: Config) -> str | None:
    """Where the data were; the usual places where that folder is gone."""
    named = config.data_dir
    return named if named is not None and Path(named).expanduser().is_dir() else None
