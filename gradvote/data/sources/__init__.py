"""The data sets: one file each, its name is the data set's, its ``load(data_dir)`` reads it."""

from pathlib import Path
from typing import TYPE_CHECKING

from gradvote.data.discovery import found, module_named
from gradvote.discovery import file_of, module_names, summary_of

if TYPE_CHECKING:
    from gradvote.data.dataset import Data


def names() -> list[str]:
    """The names of the data sets."""
    return module_names(__path__)


def describe(name: str) -> str:
    """One line about a data set. Raises ``ValueError`` for an unknown name."""
    return summary_of(file_of(__path__, found("data set", name, __path__)))


def load(name: str, data_dir: str | Path | None = None) -> "Data":
    """Read a data set into memory.

    Files are looked for in ``data_dir`` alone where it is given, otherwise in the folder named by
    GRADVOTE_DATA, then in ``../shared/data`` and ``./data``. Raises ``ValueError`` for an unknown name or a
    damaged file, :class:`~gradvote.data.DataNotFoundError` where files are absent, and ``MissingExtra`` where
    a package is.
    """
    data: Data = module_named("data set", name, __name__, __path__).load(data_dir)
    return data
