"""Checkpoints: written whole or not at all, read back without executing anything."""

import os
import reprlib
import zipfile
from pathlib import Path
from typing import Any

import torch

FORMAT = 1
KEYS = ("format", "step", "config", "models", "optimizers", "engine", "round", "seconds")


def save(state: dict[str, Any], path: Path) -> None:
    """Write atomically: to a temporary file beside `path`, flushed to disk, then renamed.

    Raises:
        OSError: the disk is full, or does not take the file; the checkpoint before this one is intact.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch hides what the file has raised
        if not isinstance(cause, OSError):
            raise
        raise OSError(
            cause.errno,
            f"The checkpoint could not be written: {cause.strerror}. "
            + ("The one before it is intact; make room" if path.exists() else "Make room")
            + ", or choose another folder, and resume",
            str(path),
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`.

    Raises:
        ValueError: there is none, it is cut short, or it is not one of gradvote's; nothing has been changed.
    """
    if not path.is_file():
        raise ValueError(f"There is no checkpoint at {path}. Give the folder of a run that has written one.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        state = {} if damaged else torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # what torch raises for bytes that it did not write is not documented
        raise ValueError(f"{path} cannot be read as a checkpoint: it is cut short or a foreign file.") from error
    if damaged:
        raise ValueError(f"{path} cannot be read as a checkpoint: its part {damaged} was altered.")
    return _checked(state, path)


def _checked(state: Any, path: Path) -> dict[str, Any]:
    missing = [key for key in KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        problem = f"it lacks {', '.join(missing)}"
    elif state["format"] != FORMAT:
        problem = f"it has format {reprlib.repr(state['format'])}"
    elif type(state["step"]) is not int or not 0 <= state["step"] < 2**53:
        problem = f"its step is {reprlib.repr(state['step'])}"
    else:
        return dict(state)
    raise ValueError(f"{path} is not a checkpoint of this version of gradvote (format {FORMAT}); {problem}.")
