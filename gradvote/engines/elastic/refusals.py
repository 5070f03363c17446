"""Why a worker was refused before it could train: told to the launcher, as the next one would be refused, too."""

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
