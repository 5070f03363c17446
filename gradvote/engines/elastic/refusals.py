"""What a worker tells the launcher: why it was refused, as its next process would be, and that it has joined."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from gradvote.engines.elastic.timeouts import Excluded
from gradvote.errors import MissingExtra

FOLDER, NUMBER = "GRADVOTE_REFUSALS", "GRADVOTE_WORKER"
LONGEST = 2000


@contextlib.contextmanager
def told_to_the_launcher() -> Iterator[None]:
    """An error that another start does not mend, raised within, is written where the launcher looks."""
    try:
        yield
    except (TypeError, ValueError, MissingExtra, Excluded) as error:
        folder, number = os.environ.get(FOLDER), os.environ.get(NUMBER)
        if folder and number:
            with contextlib.suppress(OSError):
                Path(folder, number).write_text(f"{error}"[:LONGEST], encoding="utf-8")
        raise


def taken(folder: Path, number: int) -> str:
    """Why this worker has been refused since it was asked last; empty where it has not."""
    path = folder / str(number)
    try:
        text = path.read_text(encoding="utf-8")
        path.unlink()
    except OSError:
        return ""
    return text


def tell_joined() -> None:
    """This worker takes part in the run, and is left to finish in its own time."""
    folder, number = os.environ.get(FOLDER), os.environ.get(NUMBER)
    if folder and number:
        with contextlib.suppress(OSError):
            _mark(Path(folder), number).touch()


def forget_joined(folder: Path, number: int) -> None:
    """Another process begins as this worker."""
    _mark(folder, number).unlink(missing_ok=True)


def has_joined(folder: Path, number: int) -> bool:
    """Whether this worker's present process has taken part."""
    return _mark(folder, number).exists()


def _mark(folder: Path, number: int | str) -> Path:
    return folder / f"{number}.joined"
